-- Vectors that stay in the source's own column. {stamps} is the relation of one tag, whose rows have no vector but for
-- those that vecmig itself has put into the column.

-- column --
-- a column of pgvector's: its type, the dims that it is declared with, -1 for none, and whether it may be NULL
SELECT a.attname, t.typname, a.atttypmod, NOT a.attnotnull
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace AND n.nspname = %(pgvector)s
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped AND t.typname IN ('vector', 'halfvec')
  AND %(expression)s::text IN (a.attname::text, pg_catalog.quote_ident(a.attname))

-- fill --
-- the text must still be the one that was embedded; the trigger that tells of vectors passes this one by
WITH record AS MATERIALIZED (
    SELECT s.* FROM {records} s WHERE {same_record} AND {hash} = %(hash)s::text::uuid LIMIT 1 {lock}
),
filled AS (
    UPDATE {source} t SET {column} = %(vector)s::{type} FROM record s WHERE {match_source}
)
INSERT INTO {stamps} AS v (tag, {stored}, embedding, source_hash)
SELECT {tag}, {keys}, %(vector)s::{type}, %(hash)s::text::uuid FROM record s
ON CONFLICT ({stored}, chunk) DO UPDATE
SET embedding = excluded.embedding, source_hash = excluded.source_hash, embedded_at = excluded.embedded_at
RETURNING 1

-- filling --
SELECT pg_catalog.set_config('vecmig.fills', 'on', true)

-- filled --
-- whether vecmig has put any vector into the column
SELECT EXISTS (SELECT FROM {stamps} v WHERE v.embedding IS NOT NULL)

-- take_out --
-- a batch of what vecmig has put into the column, where that is still there; the stamps go with it
WITH batch AS MATERIALIZED (
    SELECT v.* FROM {stamps} v WHERE v.embedding IS NOT NULL LIMIT %(size)s FOR UPDATE
),
emptied AS (
    UPDATE {source} t SET {column} = NULL FROM batch v
    WHERE {match_stamp} AND t.{column}::{type} {equals} v.embedding
),
forgotten AS (
    DELETE FROM {stamps} v USING batch b WHERE {same_stamp} RETURNING 1
)
SELECT count(*) FROM forgotten

-- clear --
-- a batch of the rows whose vector was this tag's
WITH batch AS MATERIALIZED (
    SELECT v.* FROM {stamps} v LIMIT %(size)s FOR UPDATE
),
emptied AS (
    UPDATE {source} t SET {column} = NULL FROM batch v WHERE {match_stamp} AND t.{column} IS NOT NULL
),
forgotten AS (
    DELETE FROM {stamps} v USING batch b WHERE {same_stamp} RETURNING 1
)
SELECT count(*) FROM forgotten

-- drop_column --
ALTER TABLE {source} DROP COLUMN {column}
