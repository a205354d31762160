-- What PostgreSQL's catalogue knows about a source.

-- source --
SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relrowsecurity
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = pg_catalog.to_regclass(%(name)s)

-- source_of --
SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relrowsecurity
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(oid)s

-- either --
-- the relation that has a name, and the one that has a number
SELECT c.oid IS NOT DISTINCT FROM pg_catalog.to_regclass(%(name)s), c.oid, n.nspname, c.relname, c.relkind::text,
       c.relrowsecurity
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid IN (pg_catalog.to_regclass(%(name)s), %(oid)s::oid)

-- column_names --
SELECT a.attnum, a.attname
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped

-- exists --
SELECT pg_catalog.to_regclass(%(name)s) IS NOT NULL

-- existing --
SELECT n.name FROM pg_catalog.unnest(%(names)s::text[]) n (name) WHERE pg_catalog.to_regclass(n.name) IS NOT NULL

-- columns --
-- with the schema of the operator that its type's own index order calls equal; enums and arrays have it in pg_catalog;
-- a domain's are those of its base; whether its values have a binary form; its collation; whether it may be
-- NULL; its number; its type by its full name; and whether to_jsonb takes its values apart, as it does with arrays, composites, and what has a cast to json
WITH RECURSIVE base (type, oid) AS (
    SELECT a.atttypid, a.atttypid
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT b.type, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid AND t.typtype = 'd'
)
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), coalesce(
    (SELECT n.nspname
     FROM pg_catalog.pg_opclass c
     JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
     JOIN pg_catalog.pg_amop o ON o.amopfamily = c.opcfamily AND o.amopstrategy = 3
                              AND o.amoplefttype = c.opcintype AND o.amoprighttype = c.opcintype
     JOIN pg_catalog.pg_operator p ON p.oid = o.amopopr
     JOIN pg_catalog.pg_namespace n ON n.oid = p.oprnamespace
     WHERE c.opcdefault AND c.opcintype IN (SELECT b.oid FROM base b WHERE b.type = t.oid)
     LIMIT 1),
    'pg_catalog'),
    t.typsend <> 0 AND t.typreceive <> 0,
    (SELECT pg_catalog.format('%%I.%%I', n.nspname, c.collname)
     FROM pg_catalog.pg_collation c
     JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
     WHERE c.oid = a.attcollation),
    NOT a.attnotnull,
    a.attnum,
    (SELECT pg_catalog.format('%%I.%%I', n.nspname, t.typname) FROM pg_catalog.pg_namespace n WHERE n.oid = t.typnamespace),
    t.typcategory IN ('A', 'C')
    OR CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END IN ('json'::regtype, 'jsonb'::regtype)
    OR EXISTS (SELECT FROM pg_catalog.pg_cast WHERE castsource = t.oid AND casttarget = 'json'::regtype)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- facts --
-- the columns of a relation, and in each row what else there is to know: pgvector, the relations whose rows are its own
-- too, and the columns that an index makes unique together
SELECT f.*, k.*
FROM (SELECT (SELECT pg_catalog.jsonb_build_array(v.schema, v.version, v.oid) FROM ({pgvector}) v (schema, version, oid)),
             (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(p.name, p.partition, p.parent) ORDER BY p.name)
              FROM ({parts}) p (name, partition, parent)),
             (SELECT pg_catalog.jsonb_agg(ARRAY(
                         SELECT a.attname::text
                         FROM pg_catalog.pg_attribute a
                         WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])))
              FROM pg_catalog.pg_index i
              WHERE i.indrelid = %(oid)s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL)) f
LEFT JOIN ({columns}) k ON true
ORDER BY k.attnum

-- other_collations --
-- the key columns that the vectors have in another collation than the source: their index does not serve it
SELECT a.attname
FROM unnest(%(names)s::text[], %(stored)s::text[]) AS k (name, stored)
JOIN pg_catalog.pg_attribute a ON a.attrelid = %(oid)s AND a.attname = k.name
JOIN pg_catalog.pg_attribute v ON v.attrelid = pg_catalog.to_regclass(%(vectors)s) AND v.attname = k.stored
WHERE v.attcollation <> a.attcollation

-- missing_privileges --
-- UPDATE is what FOR KEY SHARE asks for: it keeps a record in place while its vectors are written; TEMPORARY is for the
-- views that tell which columns an expression reads
SELECT array_remove(ARRAY[
    CASE WHEN NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') THEN 'SELECT' END,
    CASE WHEN %(tracked)s AND NOT pg_catalog.has_any_column_privilege(c.oid, 'UPDATE') THEN 'UPDATE' END,
    CASE WHEN %(tracked)s AND NOT pg_catalog.has_table_privilege(c.oid, 'TRIGGER') THEN 'TRIGGER' END,
    CASE WHEN NOT pg_catalog.has_schema_privilege(c.relnamespace, 'CREATE')
         THEN 'CREATE on schema ' || c.relnamespace::regnamespace::text END,
    -- one that is not there is created
    CASE WHEN NOT pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace(pg_catalog.quote_ident(%(vectors)s)), 'CREATE')
         THEN 'CREATE on schema ' || pg_catalog.quote_ident(%(vectors)s) END,
    CASE WHEN %(tracked)s AND NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')
         THEN 'TEMPORARY on database ' || pg_catalog.quote_ident(pg_catalog.current_database()) END], NULL)
FROM pg_catalog.pg_class c
WHERE c.oid = pg_catalog.to_regclass(%(name)s)

-- probe_view --
CREATE TEMPORARY VIEW {view} AS SELECT {fragment}::{type} AS value FROM {source}

-- resolve_begin --
CREATE TEMPORARY TABLE vecmig_resolve (LIKE {source}) ON COMMIT DROP

-- temporary --
SELECT pg_catalog.quote_ident(pg_catalog.current_database()), pg_catalog.quote_ident(current_user),
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')

-- resolve_path --
-- an expression may name what the role finds, and what pgvector has
SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', nullif(pg_catalog.current_setting('search_path'), ''),
                                                                 pg_catalog.quote_ident(%(schema)s)), true)

-- resolve --
ALTER TABLE pg_temp.vecmig_resolve ADD COLUMN vecmig_value {type} GENERATED ALWAYS AS ({fragment}::{type}) STORED

-- resolved --
SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attrdef d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE d.adrelid = pg_catalog.to_regclass('pg_temp.vecmig_resolve') AND a.attname = 'vecmig_value'

-- probed_columns --
SELECT DISTINCT a.attname
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relnamespace = pg_catalog.pg_my_temp_schema()
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attnum > 0
WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refobjid = pg_catalog.to_regclass(%(name)s) AND d.deptype = 'n'
  AND c.relname LIKE 'vecmig\_probe\_%%'

-- without_key --
SELECT count(*) FROM {source} WHERE {condition} AND {null}

-- duplicate_key --
SELECT {key_json}::text, count(*) FROM {records} s GROUP BY {keys} HAVING count(*) > 1 LIMIT 1

-- constraint --
SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_constraint c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attname = 'embedding' AND a.attnotnull
    WHERE c.conrelid = pg_catalog.to_regclass(%(partition)s) AND c.contype = 'c' AND c.convalidated
      AND replace(pg_catalog.pg_get_constraintdef(c.oid), quote_ident(%(pgvector)s) || '.', '') = %(definition)s)
