-- The HNSW index of one tag.

-- state --
SELECT i.indisvalid, i.indisready, pg_catalog.pg_relation_size(i.indexrelid)
FROM pg_catalog.pg_index i
WHERE i.indexrelid = pg_catalog.to_regclass(%(index)s) AND i.indrelid = pg_catalog.to_regclass(%(partition)s)

-- being_built --
SELECT p.pid
FROM pg_catalog.pg_stat_progress_create_index p
WHERE p.relid = pg_catalog.to_regclass(%(partition)s) AND p.pid <> pg_catalog.pg_backend_pid()
  AND p.datname = pg_catalog.current_database()
LIMIT 1

-- create --
CREATE INDEX CONCURRENTLY {index} ON {stamps} USING hnsw (({embedding}) {opclass})
WITH (m = {m}, ef_construction = {ef_construction})

-- server_workers --
SELECT pg_catalog.current_setting('max_parallel_maintenance_workers')::int

-- pid --
-- a pooler invents the number that it names to its client
SELECT pg_catalog.pg_backend_pid()

-- settle --
-- a table whose vectors are stored out of line looks small, and would be given no workers: the caller has decided
-- a notice tells that the graph no longer fits into memory
SELECT pg_catalog.set_config('maintenance_work_mem', %(memory)s, false),
       pg_catalog.set_config('max_parallel_maintenance_workers', %(workers)s::text, false),
       pg_catalog.set_config('max_parallel_workers',
                             greatest(%(workers)s, pg_catalog.current_setting('max_parallel_workers')::int)::text, false),
       pg_catalog.set_config('min_parallel_table_scan_size', '0', false),
       pg_catalog.set_config('client_min_messages', 'notice', false)

-- progress --
SELECT p.phase, p.blocks_done, p.blocks_total, p.tuples_done, p.lockers_done, p.lockers_total,
       (SELECT count(*) FROM pg_catalog.pg_stat_activity w WHERE w.leader_pid = p.pid)
FROM pg_catalog.pg_stat_progress_create_index p
WHERE p.pid = %(pid)s

-- drop --
DROP INDEX CONCURRENTLY IF EXISTS {index}

-- analyze --
ANALYZE {stamps}
