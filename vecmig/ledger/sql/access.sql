-- Who may read what vecmig makes: no more than who may read the source, whatever default privileges and event triggers
-- of the database give to a new object. With a right goes what its holder has passed on.

-- run --
DO {body}

-- close --
-- Takes away what roles were granted on relations.
DECLARE
    found record;
BEGIN
    FOR found IN
        {unmeant}
    LOOP
        EXECUTE format('REVOKE %s ON %s %s FROM %s CASCADE', found.privileges, found.kind, found.name, found.role);
    END LOOP;
END

-- unmeant --
-- What is not meant to be granted on relations: on one that is new, all of it, by column too. On one that is older, only
-- what default privileges would give to a new one today, and nobody is known to have asked for; a reader of the source
-- keeps SELECT on the vectors table itself, and on the live view.
SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid::regclass AS name,
       CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS role,
       CASE WHEN {born} THEN 'ALL' ELSE pg_catalog.string_agg(DISTINCT a.privilege_type, ', ') END AS privileges
FROM pg_catalog.pg_class c
CROSS JOIN LATERAL (
    SELECT g.grantee, g.privilege_type FROM pg_catalog.aclexplode(c.relacl) g
    UNION ALL
    SELECT g.grantee, g.privilege_type
    FROM pg_catalog.pg_attribute t, pg_catalog.aclexplode(t.attacl) g
    WHERE {born} AND t.attrelid = c.oid AND NOT t.attisdropped) a
WHERE c.oid = ANY (SELECT pg_catalog.to_regclass(x) FROM pg_catalog.unnest({relations}::text[]) x)
  AND a.grantee <> c.relowner AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
  AND ({born} OR (
      EXISTS (SELECT FROM pg_catalog.pg_default_acl d, LATERAL pg_catalog.aclexplode(d.defaclacl) g
              WHERE d.defaclrole = c.relowner AND d.defaclnamespace IN (0, c.relnamespace)
                AND d.defaclobjtype = CASE c.relkind WHEN 'S' THEN 'S'::"char" ELSE 'r' END
                AND (g.grantee, g.privilege_type) = (a.grantee, a.privilege_type))
      AND NOT EXISTS (SELECT FROM pg_catalog.jsonb_array_elements({asked}::jsonb) k
                      WHERE (k.value ->> 1) = a.privilege_type AND (k.value ->> 3) IS NULL
                        AND (k.value ->> 0) IS NOT DISTINCT FROM
                            CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee)::text END)
      AND NOT (a.privilege_type = 'SELECT' AND EXISTS (
          SELECT FROM pg_catalog.pg_class s,
                      LATERAL pg_catalog.aclexplode(coalesce(s.relacl, pg_catalog.acldefault('r', s.relowner))) r
          WHERE s.oid = pg_catalog.to_regclass({source}) AND r.privilege_type = 'SELECT' AND r.grantee = a.grantee))))
GROUP BY c.oid, c.relkind, a.grantee

-- close_function --
-- Nobody but the triggers calls it.
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT p.oid::regprocedure AS name,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role
        FROM pg_proc p
        CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE p.oid = to_regproc({function}) AND a.grantee <> p.proowner AND pg_has_role(p.proowner, 'USAGE')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s CASCADE', found.name, found.role);
    END LOOP;
END

-- open_search --
-- Everybody may call it, as PostgreSQL has it of a new function: it reads with the rights of who calls. Where default
-- privileges say otherwise, those may who read the source; what they give to single roles is taken away.
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT p.oid::regprocedure AS name,
               quote_ident(pg_get_userbyid(a.grantee)) AS role
        FROM pg_proc p
        CROSS JOIN LATERAL aclexplode(p.proacl) a
        WHERE {born} AND p.oid = to_regproc({function}) AND a.grantee NOT IN (0, p.proowner)
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s CASCADE', found.name, found.role);
    END LOOP;
    FOR found IN
        SELECT DISTINCT p.oid::regprocedure AS name,
               CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r.grantee)) END AS role
        FROM pg_proc p
        CROSS JOIN pg_class s
        CROSS JOIN LATERAL aclexplode(coalesce(s.relacl, acldefault('r', s.relowner))) r
        WHERE p.oid = to_regproc({function}) AND s.oid = to_regclass({source}) AND r.privilege_type = 'SELECT'
          AND r.grantee <> p.proowner
          AND NOT EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                          WHERE a.grantee IN (0, r.grantee) AND a.privilege_type = 'EXECUTE')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', found.name, found.role);
    END LOOP;
END

-- close_own --
-- The same for vecmig's own schema: what this transaction has made loses all, and what was there already loses what
-- default privileges would give to it today; a team's own GRANT to a reader stays. Row-level security that an event
-- trigger switches on would hide the routes from every reader.
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT o.kind, o.name, o.new,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role,
               CASE WHEN o.new THEN 'ALL' ELSE string_agg(DISTINCT a.privilege_type, ', ') END AS privileges
        FROM (SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid::regclass::text AS name,
                     c.relacl AS acl, c.relowner AS owner, c.relnamespace AS namespace,
                     CASE c.relkind WHEN 'S' THEN 'S'::"char" ELSE 'r' END AS type,
                     c.relname <> ALL ({known}::name[]) AS new
              FROM pg_class c
              WHERE c.relnamespace = {schema}::regnamespace AND c.relkind IN ('r', 'S')
              UNION ALL
              SELECT 'FUNCTION', p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner)), p.proowner,
                     p.pronamespace, 'f', true
              FROM pg_proc p
              WHERE p.pronamespace = {schema}::regnamespace AND p.prorettype = 'trigger'::regtype
              UNION ALL
              SELECT 'SCHEMA', n.oid::regnamespace::text, n.nspacl, n.nspowner, 0, 'n', {created}
              FROM pg_namespace n
              WHERE n.oid = {schema}::regnamespace AND {created}) o
        CROSS JOIN LATERAL aclexplode(o.acl) a
        WHERE a.grantee <> o.owner AND pg_has_role(o.owner, 'USAGE')
          AND (o.new OR EXISTS (SELECT FROM pg_default_acl d, LATERAL aclexplode(d.defaclacl) g
                                WHERE d.defaclrole = o.owner AND d.defaclnamespace IN (0, o.namespace)
                                  AND d.defaclobjtype = o.type
                                  AND (g.grantee, g.privilege_type) = (a.grantee, a.privilege_type)))
        GROUP BY o.kind, o.name, o.new, a.grantee
    LOOP
        EXECUTE format('REVOKE %s ON %s %s FROM %s CASCADE', found.privileges, found.kind, found.name, found.role);
    END LOOP;
    FOR found IN
        SELECT c.oid::regclass AS name
        FROM pg_class c
        WHERE c.relnamespace = {schema}::regnamespace AND c.relkind = 'r' AND c.relname <> ALL ({known}::name[])
          AND (c.relrowsecurity OR c.relforcerowsecurity)
    LOOP
        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', found.name);
    END LOOP;
END

-- schema --
SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s

-- comment_schema --
COMMENT ON SCHEMA {schema} IS {comment}

-- close_schema --
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT n.oid::regnamespace AS name,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role
        FROM pg_namespace n
        CROSS JOIN LATERAL aclexplode(n.nspacl) a
        WHERE n.oid = {schema}::regnamespace AND a.grantee <> n.nspowner
    LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA %s FROM %s CASCADE', found.name, found.role);
    END LOOP;
END

-- without_usage --
-- readers of the source who may not name what is in the schema of the vectors; NULL is PUBLIC
SELECT DISTINCT CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END
FROM pg_catalog.pg_class c,
     LATERAL pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner))) a
WHERE c.oid = pg_catalog.to_regclass(%(source)s) AND a.privilege_type = 'SELECT'
  AND (a.grantee = 0 OR pg_catalog.pg_get_userbyid(a.grantee) <> current_user)
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_namespace n,
                  LATERAL pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) u
      WHERE n.nspname = %(schema)s AND u.privilege_type = 'USAGE' AND u.grantee IN (0, a.grantee))

-- grant_usage --
GRANT USAGE ON SCHEMA {schema} TO {role}

-- own_relations --
SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace = pg_catalog.to_regnamespace(%(schema)s)

-- own_tables --
-- tables and sequences, beside the vectors, which are their sources' business
SELECT c.relname
FROM pg_catalog.pg_class c
WHERE c.relnamespace = pg_catalog.to_regnamespace(%(schema)s) AND c.relkind IN ('r', 'S') AND NOT c.relispartition
ORDER BY c.relname

-- partitions --
SELECT n.nspname, c.relname, c.relrowsecurity
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = pg_catalog.to_regclass(%(vectors)s)
ORDER BY c.relname

-- row_security --
-- of a vectors table: whether it is on, has vecmig's policy, and others
SELECT c.relrowsecurity,
       EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'vecmig_as_source'),
       EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polname <> 'vecmig_as_source')
FROM pg_catalog.pg_class c
WHERE c.oid = pg_catalog.to_regclass(%(name)s)

-- set_row_security --
ALTER TABLE {relation} {word} ROW LEVEL SECURITY

-- set_born_row_security --
ALTER TABLE {relation} {word} ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY

-- create_policy --
CREATE POLICY vecmig_as_source ON {vectors} FOR SELECT USING (EXISTS (SELECT FROM {source} s WHERE {match_source}))

-- drop_policy --
DROP POLICY vecmig_as_source ON {vectors}

-- readers --
-- who may read the source, and who a relation of its collection; and who was granted SELECT on that by the owner, without
-- the right to pass it on; NULL is PUBLIC
SELECT ARRAY({of_source})::text[], ARRAY({of_relation})::text[], ARRAY(
    SELECT CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END
    FROM pg_catalog.pg_class c, LATERAL pg_catalog.aclexplode(c.relacl) a
    WHERE c.oid = pg_catalog.to_regclass(%(relation)s) AND a.privilege_type = 'SELECT' AND NOT a.is_grantable
      AND a.grantor = c.relowner AND a.grantee <> c.relowner AND pg_catalog.pg_has_role(c.relowner, 'USAGE'))::text[]

-- readers_of --
SELECT DISTINCT CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END
FROM pg_catalog.pg_class c,
     LATERAL pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner))) a
WHERE c.oid = pg_catalog.to_regclass({relation}) AND a.privilege_type = 'SELECT'
  AND (a.grantee = 0 OR pg_catalog.pg_get_userbyid(a.grantee) <> current_user)

-- remember_grants --
-- by role names, not as aclitem: pg_upgrade refuses a table with such a column
UPDATE {schema}.collection c
SET live_grants = g.grants, live_view = g.view
FROM (SELECT coalesce(jsonb_agg(jsonb_build_array(
                 CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END, a.privilege_type,
                 a.is_grantable, a.attname) ORDER BY a.grantee, a.privilege_type, a.attname), '[]') AS grants,
             (SELECT {seen} FROM {schema}.collection c WHERE c.name = %(collection)s) AS view
      FROM (SELECT e.grantee, e.privilege_type, e.is_grantable, NULL::name AS attname
            FROM pg_catalog.pg_class v, LATERAL pg_catalog.aclexplode(v.relacl) e
            WHERE v.oid = pg_catalog.to_regclass(%(view)s) AND e.grantee <> v.relowner
            UNION ALL
            SELECT e.grantee, e.privilege_type, e.is_grantable, t.attname
            FROM pg_catalog.pg_attribute t, LATERAL pg_catalog.aclexplode(t.attacl) e
            WHERE t.attrelid = pg_catalog.to_regclass(%(view)s) AND NOT t.attisdropped) a) g
WHERE c.name = %(collection)s AND (c.live_grants, c.live_view) IS DISTINCT FROM (g.grants, g.view)
  AND pg_catalog.to_regclass(%(view)s) IS NOT NULL

-- seen --
-- the live view as the one whose grants are known: what is called like it may be another one, or in another database
pg_catalog.concat_ws('/', pg_catalog.to_regclass(%(view)s)::oid, {identity})

-- asked --
-- What is known to have been granted on the live view on purpose, where this one was not seen before; it has what it was
-- born with then. By way of jsonb, because a reading command may come before the upgrade that adds the columns.
SELECT coalesce(nullif(j.row -> 'live_grants', 'null'), '[]')::text
FROM {schema}.collection c, LATERAL pg_catalog.to_jsonb(c) AS j (row)
WHERE c.name = %(collection)s AND (j.row ->> 'live_view') IS DISTINCT FROM {seen}
  AND pg_catalog.to_regclass(%(view)s) IS NOT NULL

-- mirrored --
-- by way of jsonb, as above; a role that was renamed is known by its number
SELECT CASE pg_catalog.jsonb_typeof(m.roles) WHEN 'array' THEN ARRAY(
           SELECT coalesce((SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.rolname = e.value ->> 0),
                           (SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.oid = (e.value ->> 1)::oid))::text
           FROM pg_catalog.jsonb_array_elements(m.roles) e
           WHERE (e.value ->> 0) IS NULL
              OR EXISTS (SELECT FROM pg_catalog.pg_roles r
                         WHERE r.rolname = e.value ->> 0 OR r.oid = (e.value ->> 1)::oid)) END
FROM {schema}.collection c,
     LATERAL (SELECT pg_catalog.to_jsonb(c) -> 'mirrored' -> %(target)s::text) AS m (roles)
WHERE c.name = %(collection)s

-- record_mirrored --
UPDATE {schema}.collection c
SET mirrored = coalesce(c.mirrored, '{{}}') || pg_catalog.jsonb_build_object(%(target)s::text, m.roles)
FROM (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(n.name, r.oid::bigint) ORDER BY n.name), '[]')
      FROM pg_catalog.jsonb_array_elements_text(%(roles)s::jsonb) n (name)
      LEFT JOIN pg_catalog.pg_roles r ON r.rolname = n.name) AS m (roles)
WHERE c.name = %(collection)s AND (c.mirrored -> %(target)s::text) IS DISTINCT FROM m.roles

-- remembered_grants --
-- of roles that are still there, on columns that the view still has
SELECT g.value ->> 0, g.value ->> 1, (g.value ->> 2)::boolean, g.value ->> 3
FROM {schema}.collection c
CROSS JOIN LATERAL jsonb_array_elements(c.live_grants) g
WHERE c.name = %(collection)s
  AND (g.value ->> 0 IS NULL OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = g.value ->> 0))
  AND (g.value ->> 3 IS NULL
       OR EXISTS (SELECT FROM pg_catalog.pg_attribute t
                  WHERE t.attrelid = pg_catalog.to_regclass(%(view)s) AND t.attname = g.value ->> 3
                    AND NOT t.attisdropped))
