-- What PostgreSQL's catalogue knows about a source.

-- pgvector --
SELECT n.nspname, e.extversion
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'

-- source --
SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relrowsecurity
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = pg_catalog.to_regclass(%(name)s)

-- columns --
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), n.nspname
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- unique_index --
SELECT 1
FROM pg_catalog.pg_index i
WHERE i.indrelid = %(oid)s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND %(key)s::text[] @> ARRAY(
      SELECT a.attname::text
      FROM pg_catalog.pg_attribute a
      WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]))
LIMIT 1

-- probe_view --
CREATE TEMPORARY VIEW {view} AS SELECT {fragment}::{type} AS value FROM {source}

-- probed_columns --
SELECT DISTINCT a.attname
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relnamespace = pg_catalog.pg_my_temp_schema()
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attnum > 0
WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refobjid = pg_catalog.to_regclass(%(name)s) AND d.deptype = 'n'
  AND c.relname LIKE 'vecmig\_probe\_%%'

-- null_key --
SELECT 1 FROM {records} s WHERE {null} LIMIT 1

-- duplicate_key --
SELECT {key_json}::text, count(*) FROM {records} s GROUP BY {keys} HAVING count(*) > 1 LIMIT 1
