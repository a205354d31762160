-- The HNSW index of one tag.

-- state --
SELECT i.indisvalid, i.indisready, pg_catalog.pg_relation_size(i.indexrelid),
       coalesce(pg_catalog.pg_relation_filenode(i.indexrelid), i.indexrelid)::bigint
FROM pg_catalog.pg_index i
WHERE i.indexrelid = pg_catalog.to_regclass(%(index)s) AND i.indrelid = pg_catalog.to_regclass(%(relation)s)

-- being_built --
SELECT p.pid
FROM pg_catalog.pg_stat_progress_create_index p
WHERE p.relid = pg_catalog.to_regclass(%(relation)s) AND p.pid <> pg_catalog.pg_backend_pid()
  AND p.datname = pg_catalog.current_database()
LIMIT 1

-- create --
CREATE INDEX CONCURRENTLY {index} ON {relation} USING hnsw (({embedding}) {opclass})
WITH (m = {m}, ef_construction = {ef_construction}){where}

-- server_workers --
SELECT pg_catalog.current_setting('max_parallel_maintenance_workers')::int

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

-- serving --
-- the vector indexes of a relation by a metric: their names, what they have of a row, and the names of their parts
SELECT i.indisvalid, i.indisready, pg_catalog.pg_relation_size(i.indexrelid),
       coalesce(pg_catalog.pg_relation_filenode(i.indexrelid), i.indexrelid)::bigint, c.relname,
       pg_catalog.pg_get_indexdef(i.indexrelid, 1, false),
       ARRAY(SELECT o.relname FROM pg_catalog.pg_partition_tree(i.indexrelid) p
             JOIN pg_catalog.pg_class o ON o.oid = p.relid)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am m ON m.oid = c.relam AND m.amname IN ('hnsw', 'ivfflat')
JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[0] AND o.opcname = %(opclass)s
WHERE i.indrelid = pg_catalog.to_regclass(%(relation)s) AND (i.indpred IS NULL OR c.relname = %(own)s)
ORDER BY i.indisvalid AND i.indisready DESC, c.relname

-- rename --
ALTER INDEX {index} RENAME TO {name}

-- beside --
-- the other indexes of a tag on a relation
SELECT c.relname
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = pg_catalog.to_regclass(%(relation)s)
  AND starts_with(c.relname::text, %(tag)s) AND c.relname <> %(own)s

-- drop_now --
DROP INDEX IF EXISTS {index}
