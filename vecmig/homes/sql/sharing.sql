-- The vectors that a tag has of texts. {digest} is 128 bits of a hash of the text that a vector of {stamps} v was made from.

-- digest --
encode(substr(sha256(convert_to(v.chunk_text, 'UTF8')), 1, 16), 'hex')::uuid

-- gather --
-- where a vector of each text is, for as long as the session lasts
CREATE TEMPORARY TABLE vecmig_texts AS
SELECT {digest} AS digest, min(v.ctid) AS place FROM {stamps} v WHERE v.embedding IS NOT NULL GROUP BY 1

-- arrange --
CREATE INDEX ON pg_temp.vecmig_texts (digest)

-- analyze --
ANALYZE pg_temp.vecmig_texts

-- forget --
DROP TABLE IF EXISTS pg_temp.vecmig_texts

-- gathered --
SELECT t.digest::text, o.embedding
FROM unnest(%(digests)s::uuid[]) AS d (digest)
JOIN pg_temp.vecmig_texts t ON t.digest = d.digest
-- the row may have gone since; OFFSET 0 keeps the planner from reading all rows
CROSS JOIN LATERAL (SELECT v.embedding::{vector} AS embedding FROM {stamps} v
                    WHERE v.ctid = t.place AND {digest} = t.digest OFFSET 0) o

-- found --
SELECT DISTINCT ON (1) ({digest})::text, v.embedding::{vector}
FROM {stamps} v
WHERE v.embedding IS NOT NULL AND {digest} = ANY (%(digests)s::uuid[])

-- own --
-- the chunks that records have already
SELECT DISTINCT ON (1) ({digest})::text, v.embedding::{vector}
FROM unnest(%(keys)s::jsonb[]) AS c (key)
JOIN {stamps} v ON v.tag = %(tag)s AND {same_record}
WHERE v.embedding IS NOT NULL AND {digest} = ANY (%(digests)s::uuid[])
