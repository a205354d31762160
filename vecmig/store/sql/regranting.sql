-- Who may do what with what applications read, to give it to them again.

-- view --
SELECT a.privilege_type, CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END, a.is_grantable
FROM pg_catalog.pg_class c, LATERAL pg_catalog.aclexplode(c.relacl) a
WHERE c.oid = pg_catalog.to_regclass(%(name)s) AND a.grantee <> c.relowner

-- search --
SELECT a.privilege_type, CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END, a.is_grantable
FROM pg_catalog.pg_proc p, LATERAL pg_catalog.aclexplode(p.proacl) a
WHERE p.oid = pg_catalog.to_regprocedure(%(name)s) AND a.grantee <> p.proowner
