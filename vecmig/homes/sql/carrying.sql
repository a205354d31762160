-- What carries the vectors of a tag from one database to another: out, and to the records that have the same texts.
-- {records} is a sub-select over the source with columns k0, k1, … and txt; {stamps} is the relation of one tag.

-- text_hash --
-- what the hashes of the tag are; in a ledger that has no such column yet, the name means the one around it
SELECT (SELECT text_hash FROM {schema}.tag t WHERE t.collection = %(collection)s AND t.tag = %(tag)s)
FROM (VALUES ('md5')) AS older (text_hash)

-- export --
-- one vector of each text; the texts are told apart by rows that are narrow, in the order in which the vectors lie there
COPY (
    SELECT v.source_hash, v.chunk, v.chunks, {vector}::{type}
    FROM (SELECT min(v.ctid) AS place FROM {stamps} v {beside}
          WHERE v.chunk = 0 AND {vector} IS NOT NULL AND {condition}
          GROUP BY v.source_hash ORDER BY 1) o
    CROSS JOIN LATERAL (SELECT v.* FROM {stamps} v WHERE v.ctid = o.place OFFSET 0) v
    {beside}
) TO STDOUT (FORMAT binary)

-- beside --
-- of what was adopted only what belongs to the text as it is now, and was not replaced since
JOIN {offered} s ON {match} AND v.source_hash = {hash} AND NOT EXISTS ({vector_noted})

-- export_chunks --
-- all chunks of one complete record with each text, which come together
COPY (
    SELECT v.source_hash, v.chunk, v.chunks, v.embedding::{type}
    FROM (SELECT * FROM (SELECT DISTINCT ON (w.source_hash) w.tag, w.source_hash, w.chunks, {stored}
                         FROM {whole} w ORDER BY w.source_hash) o
          ORDER BY {order}) o
    CROSS JOIN LATERAL (SELECT v.* FROM {stamps} v
                        WHERE v.tag = o.tag AND {same_record} AND v.chunk < o.chunks ORDER BY v.chunk) v
) TO STDOUT (FORMAT binary)

-- gather --
-- The hash of each text of the source, in the file's kind of hash; n counts the records without a fresh vector, which are
-- those that a backfill would embed. OFFSET 0 keeps the planner from hashing a text once for every place that names it.
CREATE TEMPORARY TABLE vecmig_wanted AS
SELECT w.*, CASE WHEN w.pending THEN row_number() OVER () END AS n
FROM (SELECT {keys}, s.hash, coalesce(s.other_hash, s.hash) AS text, a.tag IS NULL AS new,
             v.tag IS NULL AND r.key IS NULL AND NOT {owned} AND NOT {kept} AS pending
      FROM (SELECT s.*, {hash} AS hash, {other_hash} AS other_hash FROM {records} s WHERE {eligible} OFFSET 0) s
      LEFT JOIN {whole} v ON {match} AND v.source_hash = s.hash
      LEFT JOIN {stamps} a ON {match_any} AND a.chunk = 0
      LEFT JOIN {schema}.rejected r
          ON r.collection = {collection} AND r.tag = {tag} AND {rejected_key} AND r.source_hash = s.hash) w

-- md5 --
pg_catalog.md5(s.txt)::uuid

-- sha256 --
pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256(pg_catalog.convert_to(s.txt, 'UTF8')), 1, 16), 'hex')::uuid

-- arrange --
CREATE INDEX ON pg_temp.vecmig_wanted (text, n)

-- analyze --
ANALYZE pg_temp.vecmig_wanted

-- wanted --
SELECT count(n) FROM pg_temp.vecmig_wanted

-- forget --
DROP TABLE IF EXISTS pg_temp.vecmig_wanted

-- find --
-- the next pending records with each of some texts, behind the one of a number
SELECT f.at::int, t.n, t.hash::text, t.new, {keys_text}
FROM unnest(%(texts)s::uuid[], %(after)s::bigint[]) WITH ORDINALITY AS f (text, after, at)
CROSS JOIN LATERAL (SELECT t.* FROM pg_temp.vecmig_wanted t
                    WHERE t.text = f.text AND t.n > f.after ORDER BY t.n LIMIT %(most)s) t
ORDER BY f.at, t.n

-- known --
-- which of some texts any record has
SELECT f.at::int
FROM unnest(%(texts)s::uuid[]) WITH ORDINALITY AS f (text, at)
WHERE EXISTS (SELECT FROM pg_temp.vecmig_wanted t WHERE t.text = f.text)

-- texts --
-- some texts themselves, each from a record that still has it
SELECT f.at::int, s.txt
FROM unnest(%(texts)s::uuid[]) WITH ORDINALITY AS f (text, at)
CROSS JOIN LATERAL (SELECT s.txt
                    FROM pg_temp.vecmig_wanted t
                    CROSS JOIN LATERAL (SELECT s.txt FROM {records} s WHERE {same_record} AND {hash} = t.hash LIMIT 1) s
                    WHERE t.text = f.text AND t.n IS NOT NULL LIMIT 1) s
