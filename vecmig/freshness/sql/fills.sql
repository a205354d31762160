-- The vectors that vecmig itself has put into a column of the source. {stamps} is the relation of one tag; the rows of these
-- have a vector, and no others.

-- filling --
-- the trigger that tells of vectors passes by what is written in this transaction
SELECT pg_catalog.set_config('vecmig.fills', 'on', true)

-- park --
-- the new key of a record whose stamp is about to go, where the column has what vecmig put there
INSERT INTO {schema}.fill (collection, tag, key, vector, source_hash)
SELECT {collection}, {tag}, new_key, f.vector, f.source_hash
FROM (SELECT {stamped} AS vector, v.source_hash FROM {stamps} v WHERE v.tag = {tag} AND {old_stamp} AND v.embedding IS NOT NULL
      UNION ALL
      SELECT f.vector, f.source_hash FROM {schema}.fill f
      WHERE f.collection = {collection} AND f.tag = {tag} AND md5(f.key::text)::uuid = md5(old_key::text)::uuid) f
WHERE f.vector = {in_column}
ON CONFLICT DO NOTHING

-- settle --
-- a batch of those with other keys: each gets a stamp there, of the text that it was made from. What an application holds is
-- left for the next time
WITH moved AS MATERIALIZED (
    SELECT f.ctid AS place, f.vector AS parked, f.source_hash, t.*
    FROM {schema}.fill f
    CROSS JOIN LATERAL (SELECT {key_columns}, t.{column}::{type} AS vector FROM {source} t WHERE {match_parked} LIMIT 1
                        FOR NO KEY UPDATE SKIP LOCKED) t
    WHERE f.collection = %(collection)s AND f.tag = %(tag)s
    LIMIT %(size)s
),
stamped AS (
    INSERT INTO {stamps} AS v (tag, {stored}, embedding, source_hash)
    SELECT %(tag)s, {key_columns}, t.vector, t.source_hash FROM moved t WHERE {in_column} = t.parked
    -- another record may have left its stamp there
    ON CONFLICT ({stored}, chunk) DO UPDATE SET embedding = excluded.embedding, source_hash = excluded.source_hash
    WHERE (v.embedding {equals} excluded.embedding) IS NOT TRUE
),
settled AS (
    DELETE FROM {schema}.fill f WHERE f.ctid = ANY (ARRAY(SELECT m.place FROM moved m)) RETURNING 1
)
SELECT count(*) FROM settled

-- forget_gone --
DELETE FROM {schema}.fill f
WHERE f.collection = %(collection)s AND f.tag = %(tag)s AND NOT EXISTS (SELECT FROM {source} t WHERE {match_parked})

-- idle --
-- the places of stamps of records that have no text any more
SELECT v.ctid::text
FROM {stamps} v
JOIN {rows} s ON {match}
WHERE v.embedding IS NOT NULL AND s.belongs AND NOT coalesce({eligible}, false)

-- idle_told --
-- of those, the ones that the outbox tells of
SELECT v.ctid::text
FROM {schema}.change c
JOIN {rows} s ON {changed_key} AND s.belongs AND NOT coalesce({eligible}, false)
JOIN {stamps} v ON {match}
WHERE c.collection = %(collection)s AND v.embedding IS NOT NULL

-- sweep --
-- a vector leaves the column with its stamp; one that the application has written since stays. What an application holds
-- is left for the next time
WITH batch AS MATERIALIZED (
    SELECT v.ctid AS place, v.*
    FROM {stamps} v
    CROSS JOIN LATERAL (SELECT s.* FROM {rows} s WHERE {match} AND s.belongs AND NOT coalesce({eligible}, false) LIMIT 1
                        FOR NO KEY UPDATE SKIP LOCKED) s
    WHERE v.ctid = ANY (%(places)s::tid[]) AND v.embedding IS NOT NULL
),
emptied AS (
    UPDATE {source} t SET {column} = NULL FROM batch v WHERE {match_stamp} AND t.{column}::{type} {equals} v.embedding
)
DELETE FROM {stamps} v WHERE v.ctid = ANY (ARRAY(SELECT b.place FROM batch b))
