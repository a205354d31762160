-- The extension vector.

-- pgvector --
SELECT n.nspname, e.extversion,
       (SELECT t.oid::bigint FROM pg_catalog.pg_type t WHERE t.typname = 'vector' AND t.typnamespace = n.oid)
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
