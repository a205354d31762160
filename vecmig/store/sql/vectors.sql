-- The vectors table, its partitions, and everything that reads or writes a vector.
-- {records} is a sub-select over the source with columns k0, k1, … and txt; {space} is the relation of one tag.

-- create_table --
CREATE TABLE IF NOT EXISTS {vectors} (
    tag         text NOT NULL CHECK (tag <> ''),
    {key_columns},
    chunk       int NOT NULL DEFAULT 0 CHECK (chunk >= 0),
    embedding   {type} NOT NULL,
    source_hash uuid NOT NULL,
    chunk_text  text,
    embedded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tag, {keys}, chunk)
) PARTITION BY LIST (tag)

-- comment_table --
COMMENT ON TABLE {vectors} IS {comment}

-- row_security --
SELECT relrowsecurity FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass(%(name)s)

-- enable_row_security --
ALTER TABLE {vectors} ENABLE ROW LEVEL SECURITY

-- create_policy --
CREATE POLICY vecmig_as_source ON {vectors} FOR SELECT USING (EXISTS (SELECT FROM {source} s WHERE {match_source}))

-- create_partition --
CREATE TABLE {partition} (LIKE {vectors} INCLUDING ALL)

-- alter_partition --
ALTER TABLE {partition}
    ALTER COLUMN tag SET DEFAULT {tag},
    ADD CONSTRAINT {constraint} CHECK ({condition}),
    ADD CONSTRAINT {tag_constraint} CHECK (tag = {tag})

-- attach_partition --
ALTER TABLE {vectors} ATTACH PARTITION {partition} FOR VALUES IN ({tag})

-- detach_partition --
ALTER TABLE {vectors} DETACH PARTITION {partition}

-- drop_partition --
DROP TABLE {partition}

-- attached --
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_inherits i
    WHERE i.inhrelid = pg_catalog.to_regclass(%(partition)s)
      AND i.inhparent = pg_catalog.to_regclass(%(vectors)s)
      AND NOT i.inhdetachpending)

-- exists --
SELECT pg_catalog.to_regclass(%(name)s) IS NOT NULL

-- is_ours --
SELECT pg_catalog.pg_get_partkeydef(pg_catalog.to_regclass(%(name)s)) = 'LIST (tag)'

-- readers --
SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'public' ELSE pg_catalog.pg_get_userbyid(a.grantee) END, a.grantee = 0
FROM pg_catalog.pg_class c,
     LATERAL pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner))) a
WHERE c.oid = pg_catalog.to_regclass(%(source)s) AND a.privilege_type = 'SELECT'
  AND (a.grantee = 0 OR pg_catalog.pg_get_userbyid(a.grantee) <> current_user)

-- page --
WITH page AS MATERIALIZED (
    SELECT s.*, md5(s.txt)::uuid AS hash
    FROM {records} s
    WHERE {after}
    ORDER BY {keys}
    LIMIT %(size)s
),
judged AS (
    SELECT p.*, p.txt ~ '\S'
        AND NOT EXISTS (SELECT FROM {space} v WHERE {match} AND v.chunk = 0 AND v.source_hash = p.hash)
        AND NOT EXISTS (
            SELECT FROM {schema}.rejected r
            WHERE r.collection = %(collection)s AND r.tag = %(tag)s AND {rejected_key} AND r.source_hash = p.hash)
        AS pending
    FROM page p
)
SELECT pending, hash::text, CASE WHEN pending THEN txt END, {keys_text}
FROM judged p
ORDER BY {p_keys}

-- write --
WITH record AS MATERIALIZED (
    SELECT {casts}, i.hash::uuid AS hash, i.last_chunk, i.at
    FROM unnest({key_arrays}, %(hash)s::text[], %(last_chunk)s::int[])
        WITH ORDINALITY AS i({keys}, hash, last_chunk, at)
),
guarded AS MATERIALIZED (
    -- the text must still be the one that was embedded, and the record must stay until this commits; LIMIT keeps the
    -- planner to one look by index a record, where it would rather read the whole source for each batch
    SELECT {r_keys}, r.hash, r.last_chunk, r.at
    FROM record r
    CROSS JOIN LATERAL (
        SELECT FROM {records} s WHERE {same_record} AND md5(s.txt)::uuid = r.hash LIMIT 1 {lock}
    ) s
),
surplus AS (
    DELETE FROM {space} v
    WHERE v.ctid = ANY (ARRAY(
        SELECT o.ctid
        FROM guarded g
        CROSS JOIN LATERAL (SELECT o.ctid FROM {space} o WHERE {match_surplus} AND o.chunk > g.last_chunk OFFSET 0) o))
),
written AS (
    INSERT INTO {space} AS v (tag, {key_names}, chunk, embedding, source_hash, chunk_text)
    SELECT %(tag)s, {g_keys}, i.chunk, i.embedding, g.hash, i.chunk_text
    -- unnest in the select list streams; in FROM it would keep a copy of all vectors
    FROM (SELECT unnest(%(at)s::int[]) AS at,
                 unnest(%(chunk)s::int[]) AS chunk,
                 unnest(%(chunk_text)s::text[]) AS chunk_text,
                 unnest(%(embedding)s::{type}[]) AS embedding) i
    JOIN guarded g ON g.at = i.at
    ON CONFLICT (tag, {key_names}, chunk) DO UPDATE
    SET embedding = excluded.embedding,
        source_hash = excluded.source_hash,
        chunk_text = excluded.chunk_text,
        embedded_at = now()
    WHERE v.source_hash <> excluded.source_hash
)
SELECT count(*) FROM guarded

-- reject --
INSERT INTO {schema}.rejected AS r (collection, tag, key, source_hash, reason)
SELECT %(collection)s, %(tag)s, {key_json}, i.hash::uuid, i.reason
FROM (SELECT {casts}, i.hash, i.reason
      FROM unnest({key_arrays}, %(hash)s::text[], %(reason)s::text[]) AS i({keys}, hash, reason)) i
ON CONFLICT (collection, key, tag) DO UPDATE
SET source_hash = excluded.source_hash, reason = excluded.reason, at = now()

-- coverage --
SELECT count(*) AS records,
       count(*) FILTER (WHERE s.eligible) AS eligible,
       count(*) FILTER (WHERE s.eligible AND v.source_hash = s.hash) AS fresh,
       count(*) FILTER (WHERE s.eligible AND v.source_hash IS DISTINCT FROM s.hash AND r.key IS NOT NULL) AS rejected,
       count(*) FILTER (WHERE s.eligible AND v.source_hash <> s.hash AND r.key IS NULL) AS stale,
       count(*) FILTER (WHERE s.eligible AND v.source_hash IS DISTINCT FROM s.hash
                          AND r.key IS NULL AND c.key IS NULL) AS unaccounted
-- OFFSET 0 keeps the planner from hashing a text once for every place that names its hash
FROM (SELECT {keys}, s.txt ~ '\S' AS eligible, md5(s.txt)::uuid AS hash FROM {records} s OFFSET 0) s
LEFT JOIN {space} v ON {match} AND v.chunk = 0
LEFT JOIN {schema}.rejected r
    ON r.collection = %(collection)s AND r.tag = %(tag)s AND {rejected_key} AND r.source_hash = s.hash
LEFT JOIN {schema}.change c ON c.collection = %(collection)s AND {changed_key}

-- count_records --
SELECT count(*), count(*) FILTER (WHERE s.txt ~ '\S') FROM {records} s

-- sample_texts --
SELECT s.txt FROM {records} s WHERE s.txt ~ '\S' ORDER BY md5(concat_ws(' ', {keys})) LIMIT %(size)s

-- count_vectors --
SELECT count(*), count(*) FILTER (WHERE v.chunk = 0) FROM {space} v

-- sweep_gone --
DELETE FROM {space} v
WHERE NOT EXISTS (SELECT FROM {source} s WHERE {same_source})

-- count_emptied --
SELECT count(*) FILTER (WHERE NOT coalesce(s.txt ~ '\S', false)), count(*)
FROM {rows} s
JOIN {space} v ON {match} AND v.chunk = 0
WHERE s.belongs

-- sweep_emptied --
DELETE FROM {space} v
USING {rows} s
WHERE {match} AND s.belongs AND NOT coalesce(s.txt ~ '\S', false)
  AND (%(all)s OR EXISTS (
      SELECT FROM {schema}.change c WHERE c.collection = %(collection)s AND {changed_key}))

-- sweep_rejected --
DELETE FROM {schema}.rejected r
WHERE r.collection = %(collection)s AND r.tag = %(tag)s
  AND NOT EXISTS (SELECT FROM {records} s WHERE {rejected_key} AND md5(s.txt)::uuid = r.source_hash)
