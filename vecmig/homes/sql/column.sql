-- Vectors that stay in the source's own column. {stamps} is the relation of one tag, whose rows have no vector but for
-- those that vecmig itself has put into the column.

-- column --
-- a column of pgvector's: its type, the dims that it is declared with, -1 for none, whether it may be NULL, and is generated
SELECT a.attname, t.typname, a.atttypmod, NOT a.attnotnull, a.attgenerated <> ''
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace AND n.nspname = %(pgvector)s
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped AND t.typname IN ('vector', 'halfvec')
  -- as SQL reads the name: without quotes it is in small letters
  AND (%(expression)s::text = '"' || replace(a.attname, '"', '""') || '"'
       OR (%(expression)s::text ~ '^[A-Za-z_][A-Za-z0-9_$]*$' AND lower(%(expression)s::text) = a.attname))

-- fill --
-- The text must still be the one that was embedded, and the column empty, or as vecmig filled it. The trigger that tells
-- of vectors passes this one by.
WITH record AS MATERIALIZED (
    SELECT s.* FROM {records} s WHERE {same_record} AND {hash} = %(hash)s::text::uuid LIMIT 1 {lock}
),
filled AS (
    UPDATE {source} t SET {column} = %(vector)s::{type} FROM record s
    WHERE {match_source}
      AND (t.{column} IS NULL
           OR EXISTS (SELECT FROM {stamps} v WHERE {match} AND t.{column}::{type} {equals} v.embedding))
    RETURNING 1
),
replaced AS (
    DELETE FROM {stamps} v USING record s WHERE {match} AND (SELECT count(*) FROM filled) > 0 RETURNING 1
)
INSERT INTO {stamps} AS v (tag, {stored}, embedding, source_hash)
SELECT {tag}, {keys}, %(vector)s::{type}, %(hash)s::text::uuid FROM record s
WHERE (SELECT count(*) FROM filled) > 0 AND (SELECT count(*) FROM replaced) >= 0
RETURNING 1

-- filled --
-- whether vecmig has put any vector into the column
SELECT EXISTS (SELECT FROM {stamps} v WHERE v.embedding IS NOT NULL)

-- take_out --
-- a batch of what vecmig has put into the column, where that is still there; the stamps go with it. What an application
-- holds is passed by, and tried again
WITH batch AS MATERIALIZED (
    SELECT v.*
    FROM {stamps} v
    CROSS JOIN LATERAL (SELECT FROM {source} t WHERE {match_stamp} LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) t
    WHERE v.embedding IS NOT NULL
    LIMIT %(size)s
),
emptied AS (
    UPDATE {source} t SET {column} = NULL FROM batch v
    WHERE {match_stamp} AND t.{column}::{type} {equals} v.embedding
),
forgotten AS (
    DELETE FROM {stamps} v USING batch b WHERE {same_stamp} RETURNING 1
)
SELECT (SELECT count(*) FROM forgotten),
       EXISTS (SELECT FROM {stamps} v CROSS JOIN LATERAL (SELECT FROM {source} t WHERE {match_stamp} LIMIT 1) t
               WHERE v.embedding IS NOT NULL)
       OR EXISTS ({parked})

-- clear --
-- a batch of the rows whose vector was this tag's; what an application holds is passed by, and tried again
WITH batch AS MATERIALIZED (
    SELECT v.*
    FROM {stamps} v
    CROSS JOIN LATERAL (SELECT FROM {source} t WHERE {match_stamp} LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) t
    LIMIT %(size)s
),
emptied AS (
    UPDATE {source} t SET {column} = NULL FROM batch v WHERE {match_stamp} AND t.{column} IS NOT NULL
),
forgotten AS (
    DELETE FROM {stamps} v USING batch b WHERE {same_stamp} RETURNING 1
)
SELECT (SELECT count(*) FROM forgotten),
       EXISTS (SELECT FROM {stamps} v CROSS JOIN LATERAL (SELECT FROM {source} t WHERE {match_stamp} LIMIT 1) t)
       OR EXISTS ({parked})

-- parked --
-- what vecmig has put into the column of a record whose key changed, and has no stamp yet
SELECT FROM {schema}.fill f WHERE f.collection = %(collection)s AND f.tag = %(tag)s

-- heirs --
-- the tags of other collections whose searches an index on the same column serves as well
SELECT t.collection, t.tag
FROM {schema}.tag mine
JOIN {schema}.collection own ON own.name = mine.collection
JOIN {schema}.collection c
    ON c.name <> own.name AND (c.source_oid, c.metric, c.storage) = (own.source_oid, own.metric, own.storage)
JOIN {schema}.tag t
    ON t.collection = c.name AND (t.home, t.dims, t.adopted ->> 'column') = (mine.home, mine.dims, mine.adopted ->> 'column')
JOIN {schema}.route r ON r.collection = c.name AND t.tag IN (r.live, r.standby, r.candidate)
WHERE mine.collection = %(collection)s AND mine.tag = %(tag)s
  AND t.index - ARRAY['ef_search', 'rerank'] = mine.index - ARRAY['ef_search', 'rerank']
ORDER BY t.collection, t.tag

-- bound --
-- what else keeps a column from being dropped; the triggers that tell of it go before
SELECT DISTINCT pg_catalog.pg_describe_object(b.class, b.object, 0)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_depend d
    ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'n'
LEFT JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND w.oid = d.objid
LEFT JOIN pg_catalog.pg_trigger t ON d.classid = 'pg_catalog.pg_trigger'::regclass AND t.oid = d.objid
CROSS JOIN LATERAL (SELECT CASE WHEN w.oid IS NULL THEN d.classid ELSE 'pg_catalog.pg_class'::regclass::oid END AS class,
                           coalesce(w.ev_class, d.objid) AS object) b
WHERE a.attrelid = %(oid)s AND a.attname = %(column)s AND NOT a.attisdropped
  AND t.tgfoid IS DISTINCT FROM pg_catalog.to_regproc(%(function)s)
ORDER BY 1

-- drop_column --
ALTER TABLE {source} DROP COLUMN {column}
