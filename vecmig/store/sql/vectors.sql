-- The vectors table, its partitions, and everything that reads or writes a vector.
-- {records} is a sub-select over the source with columns k0, k1, … and txt; {space} is the relation of one tag.

-- create_table --
CREATE TABLE IF NOT EXISTS {vectors} (
    tag         text NOT NULL CHECK (tag <> ''),
    {key_columns},
    chunk       int NOT NULL DEFAULT 0 CHECK (chunk >= 0),
    chunks      int NOT NULL DEFAULT 1,
    embedding   {type} NOT NULL,
    source_hash uuid NOT NULL,
    chunk_text  text,
    embedded_at timestamptz NOT NULL DEFAULT now(),
    -- role and application of whoever inserts past vecmig, which leaves it empty
    written_by  text[] DEFAULT {writer},
    PRIMARY KEY (tag, {keys}, chunk)
) PARTITION BY LIST (tag)

-- comment_table --
COMMENT ON TABLE {vectors} IS {comment}

-- comment --
SELECT pg_catalog.obj_description(pg_catalog.to_regclass(%(name)s), 'pg_class')

-- has_chunks --
SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = pg_catalog.to_regclass(%(name)s) AND a.attname = 'chunks' AND NOT a.attisdropped)

-- add_chunks --
-- the rows that are there count as records of one chunk, as they did: nothing is embedded again for it
ALTER TABLE {vectors} ADD COLUMN IF NOT EXISTS chunks int NOT NULL DEFAULT 1

-- has_writers --
SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = pg_catalog.to_regclass(%(name)s) AND a.attname = 'written_by' AND NOT a.attisdropped)

-- add_writers --
-- in two steps: of the rows that are there nobody knows it
ALTER TABLE {vectors} ADD COLUMN IF NOT EXISTS written_by text[];
ALTER TABLE {vectors} ALTER COLUMN written_by SET DEFAULT {writer}

-- writer --
CASE WHEN pg_catalog.current_setting('application_name') <> 'vecmig'
     THEN ARRAY[session_user::text, pg_catalog.current_setting('application_name')] END

-- create_partition --
CREATE TABLE {partition} (LIKE {vectors} INCLUDING ALL)

-- alter_partition --
ALTER TABLE {partition}
    ALTER COLUMN tag SET DEFAULT {tag},
    ADD CONSTRAINT {constraint} CHECK ({condition}),
    ADD CONSTRAINT {tag_constraint} CHECK (tag = {tag})

-- restore_constraint --
ALTER TABLE {partition} DROP CONSTRAINT IF EXISTS {constraint}, ADD CONSTRAINT {constraint} CHECK ({condition})

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

-- is_ours --
SELECT pg_catalog.pg_get_partkeydef(pg_catalog.to_regclass(%(name)s)) = 'LIST (tag)'

-- whole --
(SELECT v.* FROM {space} v WHERE v.chunk = 0 {condition})

-- all_chunks --
AND (v.chunks = 1 OR v.chunks = (
    SELECT count(*)
    FROM {space} c
    WHERE c.tag = v.tag AND {same_record} AND c.chunk < v.chunks AND c.source_hash = v.source_hash))

-- hash --
-- The first 128 bits of the text's SHA-256. A tag that an earlier vecmig began keeps the MD5 that its stamps are: to write
-- them anew would put every vector into the index again. In a ledger that has no such column yet, the name means the one
-- around it.
CASE WHEN (SELECT (SELECT text_hash FROM {schema}.tag t WHERE t.collection = {collection} AND t.tag = {tag})
           FROM (VALUES ('md5')) AS older (text_hash)) = 'md5'
     THEN pg_catalog.md5(s.txt)::uuid
     ELSE pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256(pg_catalog.convert_to(s.txt, 'UTF8')), 1, 16),
                            'hex')::uuid END

-- coverage --
SELECT count(*) AS records,
       count(*) FILTER (WHERE s.eligible) AS eligible,
       count(*) FILTER (WHERE s.eligible AND v.source_hash = s.hash) AS fresh,
       count(*) FILTER (WHERE s.eligible AND (v.source_hash = s.hash) IS NOT TRUE AND r.key IS NOT NULL) AS rejected,
       count(*) FILTER (WHERE s.eligible AND v.source_hash <> s.hash AND r.key IS NULL) AS stale,
       count(*) FILTER (WHERE s.eligible AND (v.source_hash = s.hash) IS NOT TRUE
                          AND r.key IS NULL AND c.key IS NULL) AS unaccounted,
       coalesce(sum(v.chunks) FILTER (WHERE s.eligible), 0) AS vectors
-- OFFSET 0 keeps the planner from hashing a text once for every place that names its hash; before the first vector
-- there is nothing to compare it with
FROM (SELECT {keys}, {eligible} AS eligible,
             CASE WHEN (SELECT EXISTS (SELECT FROM {space})
                            OR EXISTS (SELECT FROM {schema}.rejected r
                                       WHERE r.collection = %(collection)s AND r.tag = %(tag)s))
                  THEN {hash} END AS hash
      FROM {records} s OFFSET 0) s
LEFT JOIN {whole} v ON {match}
LEFT JOIN {schema}.rejected r
    ON r.collection = %(collection)s AND r.tag = %(tag)s AND {rejected_key} AND r.source_hash = s.hash
LEFT JOIN {schema}.change c ON c.collection = %(collection)s AND {changed_key}

-- count_records --
SELECT count(*), count(*) FILTER (WHERE {eligible}) FROM {records} s

-- count_vectors --
SELECT count(*), count(*) FILTER (WHERE v.chunk = 0) FROM {space} v

-- has_vectors --
SELECT EXISTS (SELECT FROM {space})

-- count_idle --
-- per chunk 0 but for the first figure, so that a record of many chunks counts once
SELECT count(*) FILTER (WHERE s.k0 IS NULL),
       count(*) FILTER (WHERE s.belongs AND v.chunk = 0 AND NOT coalesce({eligible}, false)),
       count(*) FILTER (WHERE s.belongs AND v.chunk = 0)
FROM {space} v
LEFT JOIN {rows} s ON {match}

-- sweep_gone --
DELETE FROM {space} v
WHERE NOT EXISTS (SELECT FROM {source} s WHERE {same_source})

-- sweep_emptied --
DELETE FROM {space} v
USING {rows} s
WHERE {match} AND s.belongs AND NOT coalesce({eligible}, false)
  AND (%(all)s OR EXISTS (
      SELECT FROM {schema}.change c WHERE c.collection = %(collection)s AND {changed_key}))

-- sweep_rejected --
DELETE FROM {schema}.rejected r
WHERE r.collection = %(collection)s AND r.tag = %(tag)s
  AND NOT EXISTS (SELECT FROM {records} s WHERE {rejected_key} AND {hash} = r.source_hash)
