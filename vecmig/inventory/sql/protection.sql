-- How the rights and places of what vecmig has made differ from what they should be. Everything here reads only.

-- cannot_search --
-- roles that may read the whole source, and may not call the search function or name what is in the vectors' schema
SELECT DISTINCT pg_catalog.quote_ident(r.rolname)
FROM pg_catalog.pg_class c
CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
LEFT JOIN pg_catalog.pg_proc p ON p.oid = pg_catalog.to_regproc(%(search)s)
WHERE c.oid = pg_catalog.to_regclass(%(source)s) AND a.privilege_type = 'SELECT'
  AND (NOT coalesce(pg_catalog.has_function_privilege(coalesce(r.rolname, 'public'), p.oid, 'EXECUTE'), true)
       OR NOT coalesce(pg_catalog.has_schema_privilege(
           coalesce(r.rolname, 'public'), pg_catalog.to_regnamespace(pg_catalog.quote_ident(%(schema)s)), 'USAGE'), true))
ORDER BY 1 NULLS FIRST

-- foreign_operators --
-- in the live view: neither PostgreSQL's nor pgvector's, nor of a key's own type
SELECT o.oid::regoperator::text
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_catalog.pg_rewrite'::regclass
JOIN pg_catalog.pg_operator o ON d.refclassid = 'pg_catalog.pg_operator'::regclass AND o.oid = d.refobjid
JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
WHERE r.ev_class = pg_catalog.to_regclass(%(live)s) AND n.nspname <> 'pg_catalog'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                  WHERE e.classid = 'pg_catalog.pg_operator'::regclass AND e.objid = o.oid AND e.deptype = 'e')
  AND NOT (n.nspname = ANY (%(schemas)s::text[]) AND EXISTS (
      SELECT FROM pg_catalog.pg_amop m WHERE m.amopopr = o.oid))
  -- what a team has named with its schema in where
  AND pg_catalog.strpos(%(where)s, n.nspname || '.' || o.oprname) = 0
ORDER BY 1

-- own_grants --
-- who was granted more on vecmig's own tables and sequences than a reader needs
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname), pg_catalog.quote_ident(r.rolname),
       pg_catalog.array_agg(DISTINCT a.privilege_type ORDER BY a.privilege_type)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'S') AND NOT c.relispartition
  AND a.grantee <> c.relowner AND (a.grantee = 0 OR r.rolname <> ALL (%(migrators)s::text[]))
  AND NOT (a.privilege_type = 'SELECT' AND c.relname IN ('schema_version', 'collection', 'tag', 'route'))
  AND NOT (a.privilege_type IN ('SELECT', 'INSERT') AND c.relname = 'shadow')
GROUP BY n.nspname, c.relname, r.rolname
ORDER BY 1, 2 NULLS FIRST
