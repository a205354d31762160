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
CREATE INDEX CONCURRENTLY {index} ON {space} USING hnsw (({embedding}) {opclass})
WITH (m = {m}, ef_construction = {ef_construction})

-- drop --
DROP INDEX CONCURRENTLY IF EXISTS {index}

-- analyze --
ANALYZE {space}
