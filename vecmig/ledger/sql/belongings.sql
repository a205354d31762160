-- What in a database is vecmig's, for the schema tools of a team. Without a percent sign: other drivers run it, too.

-- ledgers --
-- the schemas that hold vecmig's own tables, and whether this role may read what they say
SELECT n.nspname,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'collection' AND c.relkind = 'r'
WHERE (SELECT count(*) FROM pg_catalog.pg_class
       WHERE relnamespace = n.oid AND relkind = 'r' AND relname IN ('schema_version', 'route', 'revision')) = 3
ORDER BY n.nspname

-- relations --
-- What lies in a ledger's schema, which is for the caller to sort; and what is vecmig's elsewhere: the vectors tables, wherever they are, with their partitions; partitions that a
-- retire has detached; and the views that show the live tags. A vectors table is known by how it is made, not by its
-- name: a dump may have lost its comment, and a table of the team's may be called alike.
WITH laid_out (oid) AS (
    SELECT a.attrelid
    FROM pg_catalog.pg_attribute a
    WHERE a.attnum > 0 AND NOT a.attisdropped
      AND a.attname IN ('tag', 'chunk', 'embedding', 'source_hash', 'chunk_text', 'embedded_at')
    GROUP BY a.attrelid
    HAVING count(*) = 6),
parent (oid) AS (
    SELECT c.oid
    FROM pg_catalog.pg_class c
    JOIN laid_out ON laid_out.oid = c.oid
    WHERE c.relkind = 'p' AND pg_catalog.pg_get_partkeydef(c.oid) = 'LIST (tag)'),
vectors (oid) AS (
    SELECT oid FROM parent
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN parent ON parent.oid = i.inhparent
    UNION
    SELECT c.conrelid
    FROM pg_catalog.pg_constraint c
    JOIN laid_out ON laid_out.oid = c.conrelid
    WHERE c.contype = 'c' AND c.conname = 'vecmig_tag')
SELECT n.nspname, c.relname, made.own, pg_catalog.pg_table_is_visible(c.oid)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT
    c.oid IN (SELECT oid FROM vectors)
    OR c.relkind = 'v' AND EXISTS (
        SELECT
        FROM pg_catalog.pg_rewrite r
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
        JOIN parent ON parent.oid = d.refobjid
        JOIN pg_catalog.pg_class p ON p.oid = parent.oid
        WHERE r.ev_class = c.oid AND c.relname = pg_catalog.regexp_replace(p.relname, '_vectors$', '_live'))) made (own)
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND (made.own OR n.nspname IN ({ledgers}))

-- live_views --
-- also where somebody dropped one: a model of it is no table to create
SELECT coalesce(pg_catalog.to_jsonb(c) ->> 'home_schema', c.source_schema), c.name || '_live'
FROM {schema}.collection c
