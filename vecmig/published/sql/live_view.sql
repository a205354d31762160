-- What applications read: the live view and the search function. The planner must find the tag as a literal: a sub-select
-- on a registry, or a function that reads one, would keep it from the index. The function that the view calls has one
-- SELECT, which the planner puts in its place; a plan that was kept is made again when the function is replaced. It is
-- one for tag and dims, so that no plan is made of the tag before and the dims after.

-- create_pick --
CREATE OR REPLACE FUNCTION {pick}(pg_catalog.text, {storage}) RETURNS SETOF {storage}
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT {vector} WHERE $1 OPERATOR(pg_catalog.=) {tag};
END

-- create_view --
CREATE OR REPLACE VIEW {live} WITH (security_invoker = true) AS
SELECT {columns}
FROM {vectors} e
JOIN (SELECT {source_columns} FROM {source} WHERE {condition}) s ON {match}
CROSS JOIN LATERAL {pick}(e.tag, {stored}) p (embedding)

-- view_columns --
SELECT a.attname
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = pg_catalog.to_regclass(%(view)s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- kept_columns --
-- by way of jsonb, because --sql may come before the upgrade that adds the column
SELECT nullif(pg_catalog.to_jsonb(c) -> 'kept_columns', 'null') FROM {schema}.collection c WHERE c.name = %(collection)s

-- same_view --
SELECT pg_catalog.pg_get_viewdef(v.oid) = pg_catalog.pg_get_viewdef(t.oid) AND v.reloptions = t.reloptions
FROM pg_catalog.pg_class v, pg_catalog.pg_class t
WHERE v.oid = pg_catalog.to_regclass(%(view)s) AND v.relkind = 'v' AND t.oid = pg_catalog.to_regclass(%(trial)s)

-- view_reads --
-- by the function that it calls; one that an earlier vecmig has made names the tag itself
-- not quote_literal: it writes a backslash in E'', the deparser does not
SELECT pg_catalog.strpos(
    CASE WHEN EXISTS (SELECT
                      FROM pg_catalog.pg_rewrite r
                      JOIN pg_catalog.pg_depend d
                          ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
                         AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                      WHERE r.ev_class = pg_catalog.to_regclass(%(view)s)
                        AND d.refobjid = pg_catalog.to_regprocedure(%(pick)s))
         THEN pg_catalog.replace(
             pg_catalog.pg_get_function_sqlbody(pg_catalog.to_regprocedure(%(pick)s)), '$1 = ', 'e.tag = ')
         ELSE pg_catalog.pg_get_viewdef(pg_catalog.to_regclass(%(view)s)) END,
    'e.tag = ''' || pg_catalog.replace(%(tag)s, '''', '''''') || '''') > 0

-- reads --
-- whether the view is there, and reads the tag; whether the function is there, and as it would be published now
SELECT pg_catalog.to_regclass(%(view)s) IS NOT NULL, coalesce(({view_reads}), false), ({has_search}), ({same_search})

-- has_search --
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = %(schema)s AND p.proname = %(name)s AND pg_catalog.strpos(p.prosrc, 'VM00') > 0)

-- same_search --
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = %(schema)s AND p.proname = %(name)s AND p.prosrc = %(body)s)

-- foreign --
SELECT pg_catalog.to_regclass(%(view)s) IS NOT NULL AND NOT coalesce(
           pg_catalog.strpos(pg_catalog.pg_get_viewdef(pg_catalog.to_regclass(%(view)s)), %(vectors)s) > 0, false),
       EXISTS (
           SELECT FROM pg_catalog.pg_proc p
           JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
           WHERE n.nspname = %(schema)s AND p.proname = %(name)s AND pg_catalog.strpos(p.prosrc, 'VM00') = 0)

-- search_grants --
-- of single roles, not of everybody
SELECT pg_catalog.pg_get_userbyid(a.grantee), a.is_grantable
FROM pg_catalog.pg_proc p
CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) a
WHERE p.oid = pg_catalog.to_regprocedure(%(search)s) AND a.grantee NOT IN (0, p.proowner)

-- create_search --
CREATE OR REPLACE FUNCTION {search}(query {query_type}, k int DEFAULT 10, tag text DEFAULT NULL)
RETURNS TABLE ({result_columns}, chunk int, distance double precision)
LANGUAGE plpgsql STABLE {settings} AS {body}

-- search_body --
#variable_conflict use_column
BEGIN
    IF $3 IS NOT NULL AND $3 <> {tag} THEN
        RAISE EXCEPTION USING ERRCODE = 'VM001', MESSAGE = format('tag %s is not live in %s', $3, {name}),
            HINT = format('The live tag is %s: embed the query with its recipe.', {tag});
    END IF;
    IF {vector_dims}($1) <> {dims} THEN
        RAISE EXCEPTION USING ERRCODE = 'VM002',
            MESSAGE = format('the query vector has %s dimensions, the live tag of %s has %s',
                             {vector_dims}($1), {name}, {dims}),
            HINT = format('The live tag is %s: embed the query with its recipe.', {tag});
    END IF;
    {answer}
END

-- scan_once --
RETURN QUERY {nearest};

-- scan_on --
DECLARE
    vecmig_scan text := current_setting('hnsw.iterative_scan', true);
BEGIN
    PERFORM set_config('hnsw.iterative_scan', 'strict_order', true);
    RETURN QUERY {nearest};
    PERFORM set_config('hnsw.iterative_scan', coalesce(vecmig_scan, 'off'), true);
END;

-- scan_deep --
DECLARE
    vecmig_kept text := {kept};
BEGIN
    PERFORM {keep_candidates};
    {answer}
    PERFORM set_config('hnsw.ef_search', vecmig_kept, true);
END;

-- no_search_body --
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'VM003', MESSAGE = format('no tag is live in %s', {name}),
        HINT = 'Run: vecmig upgrade head';
END
