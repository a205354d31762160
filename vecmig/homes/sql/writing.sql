-- What writes vectors, and records that cannot have any.
-- {records} is a sub-select over the source with columns k0, k1, … and txt; {stamps} is the relation of one tag.

-- guard --
WITH record AS MATERIALIZED (
    SELECT {casts}, i.hash::uuid AS hash, i.at::int AS at
    FROM unnest({key_arrays}, %(hash)s::text[]) WITH ORDINALITY AS i({keys}, hash, at)
)
SELECT r.at, {sent_keys}
FROM record r
-- the text must still be the one that was embedded, and the record must stay until this commits; LIMIT keeps the planner
-- to one look by index a record, where it would rather read the whole source for each batch
CROSS JOIN LATERAL (SELECT FROM {records} s WHERE {same_record} AND {hash} = r.hash LIMIT 1 {lock}) s

-- replace --
-- runs after guard, in its transaction: gives the records that are fresh already, deletes what is there of the others
WITH record AS MATERIALIZED (
    SELECT {casts}, i.hash::uuid AS hash, i.at::int AS at
    FROM unnest({key_arrays}, %(hash)s::text[]) WITH ORDINALITY AS i({keys}, hash, at)
    WHERE i.at = ANY (%(guarded)s::int[])
),
fresh AS MATERIALIZED (
    SELECT r.at
    FROM record r
    WHERE EXISTS (SELECT FROM {whole} v WHERE {match_record} AND v.source_hash = r.hash OFFSET 0)
),
replaced AS (
    DELETE FROM {stamps} v
    WHERE v.ctid = ANY (ARRAY(
        SELECT o.ctid
        FROM record r
        CROSS JOIN LATERAL (SELECT v.ctid FROM {stamps} v WHERE {match_record} OFFSET 0) o
        WHERE r.at NOT IN (SELECT f.at FROM fresh f)))
)
SELECT at FROM fresh

-- copy --
COPY {target} ({columns}) FROM STDIN WITH (FORMAT binary)

-- stage --
CREATE TEMPORARY TABLE vecmig_incoming ON COMMIT DROP AS SELECT {columns} FROM {stamps} v LIMIT 0

-- unstage --
INSERT INTO {stamps} ({columns}) SELECT {casts} FROM pg_temp.vecmig_incoming v

-- supersede --
-- runs before replace: the source's own vectors of these records are of older texts, whatever they are compared with later;
-- where one has none, that is so of the copy
WITH outlived AS (
    SELECT {key_json} AS key, {digest} AS own,
           (SELECT {copied} FROM {stamps} v WHERE {match_record} AND v.chunk = 0) AS copied
    FROM (SELECT {casts}, i.at::int AS at
          FROM unnest({key_arrays}) WITH ORDINALITY AS i({keys}, at)) i
    CROSS JOIN LATERAL (SELECT s.vector FROM {offered} s WHERE {same_record} LIMIT 1) s
    WHERE i.at = ANY (%(guarded)s::int[])
),
kept AS (
    INSERT INTO {schema}.superseded (collection, tag, key, vector)
    SELECT %(collection)s, %(tag)s, o.key, o.copied FROM outlived o WHERE o.own IS NULL AND o.copied IS NOT NULL
    ON CONFLICT DO NOTHING
)
INSERT INTO {schema}.superseded (collection, tag, key, vector)
SELECT %(collection)s, %(tag)s, o.key, o.own FROM outlived o WHERE o.own IS NOT NULL
ON CONFLICT (collection, (md5(key::text)::uuid), tag) DO UPDATE SET vector = excluded.vector

-- reject --
INSERT INTO {schema}.rejected AS r (collection, tag, key, source_hash, reason)
SELECT %(collection)s, %(tag)s, {key_json}, i.hash::uuid, i.reason
FROM (SELECT {casts}, i.hash, i.reason
      FROM unnest({key_arrays}, %(hash)s::text[], %(reason)s::text[]) AS i({keys}, hash, reason)) i
ON CONFLICT (collection, (md5(key::text)::uuid), tag) DO UPDATE
SET source_hash = excluded.source_hash, reason = excluded.reason, at = now()
