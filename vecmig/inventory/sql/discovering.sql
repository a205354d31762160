-- What a database has of vectors in tables that are not vecmig's. Everything here reads only.
-- {relation} is a table; {sample} a TABLESAMPLE clause, or nothing; {column} one of its columns, of the type that {dims} and {norm} are for.

-- columns --
-- all columns of the tables that have a vector, a halfvec or an array of floats; a domain counts as what it is over
WITH base AS (
    SELECT a.attrelid, a.attname, a.attnum, a.attnotnull, a.atttypid, a.atttypmod,
           CASE WHEN y.typtype = 'd' THEN y.typbasetype ELSE y.oid END AS type,
           CASE WHEN y.typtype = 'd' THEN y.typtypmod ELSE a.atttypmod END AS modifier
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
    WHERE a.attnum > 0 AND NOT a.attisdropped),
kind AS (
    SELECT b.*, CASE
        WHEN y.typname IN ('vector', 'halfvec') AND y.typnamespace = pg_catalog.to_regnamespace(%(pgvector)s) THEN y.typname
        WHEN y.oid IN ('real[]'::regtype, 'double precision[]'::regtype) THEN 'array'
        WHEN y.typcategory = 'S' THEN 'text'
        ELSE 'other' END AS kind
    FROM base b
    JOIN pg_catalog.pg_type y ON y.oid = b.type)
SELECT c.oid, n.nspname, c.relname, pg_catalog.format('%%I.%%I', n.nspname, c.relname), c.relkind::text, c.relrowsecurity,
       k.attname, pg_catalog.quote_ident(k.attname), pg_catalog.format_type(k.atttypid, k.atttypmod), k.kind,
       CASE WHEN k.kind IN ('vector', 'halfvec') AND k.modifier > 0 THEN k.modifier END, NOT k.attnotnull
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN kind k ON k.attrelid = c.oid
WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND c.oid IN (SELECT v.attrelid FROM kind v WHERE v.kind IN ('vector', 'halfvec', 'array'))
ORDER BY n.nspname, c.relname, k.attnum

-- quoted --
SELECT pg_catalog.quote_ident(%(name)s)

-- key --
-- of unique indexes without NULL, that of the primary key first, then the one with the fewest columns; a materialized
-- view has no column that is NOT NULL
SELECT ARRAY(SELECT a.attname::text
             FROM unnest(x.indkey[0:x.indnkeyatts - 1]) WITH ORDINALITY k (attnum, at)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
             ORDER BY k.at)
FROM pg_catalog.pg_index x
WHERE x.indrelid = %(oid)s AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind <> 'm'
                  WHERE a.attrelid = x.indrelid AND NOT a.attnotnull AND a.attnum = ANY (x.indkey[0:x.indnkeyatts - 1]))
ORDER BY x.indisprimary DESC, x.indnkeyatts, x.indexrelid
LIMIT 1

-- indexes --
-- those that a column stands in, also within an expression
SELECT i.relname, m.amname, o.opcname, x.indisvalid AND x.indisready, d.columns, pg_catalog.pg_get_indexdef(x.indexrelid)
FROM pg_catalog.pg_index x
JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_am m ON m.oid = i.relam
JOIN pg_catalog.pg_opclass o ON o.oid = x.indclass[0]
CROSS JOIN LATERAL (
    SELECT array_agg(DISTINCT a.attname::text) AS columns
    FROM pg_catalog.pg_depend p
    JOIN pg_catalog.pg_attribute a ON a.attrelid = p.refobjid AND a.attnum = p.refobjsubid
    WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = x.indexrelid
      AND p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = x.indrelid AND p.refobjsubid > 0) d
WHERE x.indrelid = %(oid)s AND d.columns IS NOT NULL
ORDER BY i.relname

-- readers --
-- functions with a vector among their arguments, that name the table
SELECT p.oid::regprocedure::text
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.prokind = 'f' AND l.lanname IN ('sql', 'plpgsql') AND n.nspname !~ '^pg_' AND n.nspname <> %(ledger)s
  AND EXISTS (SELECT FROM unnest(p.proargtypes::oid[]) t (oid)
              JOIN pg_catalog.pg_type y ON y.oid = t.oid
              WHERE y.typname IN ('vector', 'halfvec'))
  AND coalesce(nullif(p.prosrc, ''), pg_catalog.pg_get_functiondef(p.oid)) ~* ('\m' || %(table)s || '\M')
ORDER BY 1

-- size --
-- over all partitions: the pages that there are, all bytes but the indexes', and rows and pages as the statistics have
-- them; no rows where one was never looked at
SELECT coalesce(sum(pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::bigint), 0)::bigint,
       coalesce(sum(pg_catalog.pg_table_size(c.oid)), 0)::bigint,
       CASE WHEN bool_and(c.reltuples >= 0 AND (c.relpages > 0 OR pg_catalog.pg_relation_size(c.oid) = 0)) THEN sum(c.reltuples)::bigint END,
       coalesce(sum(c.relpages), 0)::bigint
FROM pg_catalog.pg_class c
WHERE c.relkind IN ('r', 'm')
  AND (c.oid = %(oid)s OR c.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree(%(oid)s) t WHERE t.isleaf))

-- density --
-- how many rows stand in how many pages
SELECT count(*), count(DISTINCT (s.tableoid, (s.ctid::text::point)[0])) FROM {relation} s {sample}

-- count --
SELECT count(*), count(s.{column}) FROM {relation} s {sample}

-- values --
-- what a column says, the most frequent first
SELECT s.{column}::text, count(*) FROM {relation} s {sample} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {most}

-- names --
SELECT s.{value}::text, s.{name}::text FROM {relation} s ORDER BY 2, 1

-- lengths --
-- the mean length of the texts in one column
SELECT coalesce(avg(pg_catalog.length(s.{column}::text)), 0)::double precision FROM {relation} s {sample}

-- array --
-- whether arrays have one dimension, as many elements as all others, and none that is NULL
SELECT min(pg_catalog.array_length(s.{column}, 1)), max(pg_catalog.array_length(s.{column}, 1)),
       bool_and(pg_catalog.array_ndims(s.{column}) = 1 AND pg_catalog.array_position(s.{column}, NULL) IS NULL)
FROM {relation} s {sample}
WHERE s.{column} IS NOT NULL

-- sizes --
SELECT d.part, d.model, d.dims, count(*), count(*) FILTER (WHERE d.norm = 0),
       count(*) FILTER (WHERE d.norm IN ('NaN', 'Infinity')),
       min(d.norm) FILTER (WHERE d.norm > 0 AND d.norm < 'Infinity'),
       percentile_disc(0.5) WITHIN GROUP (ORDER BY d.norm) FILTER (WHERE d.norm > 0 AND d.norm < 'Infinity'),
       max(d.norm) FILTER (WHERE d.norm > 0 AND d.norm < 'Infinity')
FROM (SELECT {part} AS part, {model} AS model, {dims} AS dims, ({norm})::double precision AS norm
      FROM {relation} s {sample}
      WHERE s.{column} IS NOT NULL AND {condition}
      LIMIT {most}) d
GROUP BY 1, 2, 3
ORDER BY 4 DESC, 3, 1, 2

-- last_dims --
-- how many vectors have their last dimension that is not zero where
SELECT d.last, count(*)
FROM (SELECT (SELECT max(e.at) FROM unnest(s.{column}::real[]) WITH ORDINALITY e (x, at) WHERE e.x <> 0) AS last
      FROM {relation} s {sample}
      WHERE s.{column} IS NOT NULL AND {dims} = {wanted}
      LIMIT {most}) d
WHERE d.last IS NOT NULL
GROUP BY 1
ORDER BY 2 DESC, 1 DESC
