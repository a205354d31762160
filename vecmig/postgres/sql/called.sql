-- Functions that a team's own SQL calls.

-- called --
-- Where pgvector is; and a function by its full name, with its schema, if it is the only one of that name and has no
-- search_path of its own. A regprocedure is written without the schema that the search_path has anyway.
SELECT (SELECT quote_ident(n.nspname) FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'),
       f.name, f.schema, quote_ident(f.schema), f.sets_path
FROM (SELECT count(*) AS alike, min(p.oid::pg_catalog.regprocedure::text) AS name, min(n.nspname) AS schema,
             bool_or(array_to_string(p.proconfig, ',') LIKE '%%search_path=%%') AS sets_path
      FROM pg_catalog.pg_proc p
      JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      WHERE p.oid = pg_catalog.to_regprocedure(%(signature)s)
         OR (%(signature)s::text IS NULL AND p.proname = %(name)s)) f
WHERE f.alike = 1
