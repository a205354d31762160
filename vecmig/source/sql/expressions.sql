-- What a collection's expressions read beside the record itself. Nothing here writes, and nothing runs an expression.

-- plan --
-- the condition keeps PostgreSQL from merging the two levels where, and only where, the inner one is volatile
EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON)
SELECT value FROM (SELECT {fragment}{type} AS value FROM {source}) vecmig_probe WHERE value IS NOT NULL

-- called --
-- the functions behind calls, operators and casts that may give something else for the same arguments: name, signature,
-- whether they are volatile, and whether they came with PostgreSQL or an extension
SELECT n.nspname, p.proname, p.oid::pg_catalog.regprocedure::text, p.provolatile = 'v',
       n.nspname = 'pg_catalog' OR EXISTS (
           SELECT FROM pg_catalog.pg_depend d
           WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.provolatile <> 'i' AND p.oid IN (
    SELECT f.oid
    FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS named (schema, name)
    JOIN pg_catalog.pg_proc f ON f.proname = named.name
    WHERE CASE WHEN named.schema = '' THEN pg_catalog.pg_function_is_visible(f.oid)
               ELSE f.pronamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident(named.schema)) END
    UNION ALL
    SELECT o.oprcode FROM pg_catalog.pg_operator o WHERE o.oid >= 16384 AND o.oprname = ANY (%(operators)s::text[])
    UNION ALL
    SELECT c.castfunc FROM pg_catalog.pg_cast c
    WHERE c.oid >= 16384
      AND pg_catalog.strpos(%(text)s, '::' || pg_catalog.format_type(c.casttarget, NULL)) > 0)
ORDER BY p.provolatile = 'v' DESC, n.nspname, p.proname, p.oid

-- parts --
-- relations whose rows are the source's too, and whose changes fire none of its triggers; those of a partition do
SELECT c.oid::pg_catalog.regclass::text, p.relkind = 'p', p.oid::pg_catalog.regclass::text
FROM pg_catalog.pg_class p
CROSS JOIN LATERAL (
    WITH RECURSIVE below (oid) AS (
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = p.oid
        UNION
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.oid)
    SELECT b.oid FROM below b) b
JOIN pg_catalog.pg_class c ON c.oid = b.oid
WHERE p.oid = %(oid)s AND (p.relkind <> 'p' OR c.relkind = 'f')
ORDER BY 1
