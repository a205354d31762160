-- The HNSW index of one tag.

-- state --
SELECT i.indisvalid, i.indisready, pg_catalog.pg_relation_size(i.indexrelid)
FROM pg_catalog.pg_index i
WHERE i.indexrelid = pg_catalog.to_regclass(%(index)s) AND i.indrelid = pg_catalog.to_regclass(%(partition)s)

-- create --
CREATE INDEX CONCURRENTLY {index} ON {space} USING hnsw (({embedding}) {opclass})
WITH (m = {m}, ef_construction = {ef_construction})

-- drop --
DROP INDEX CONCURRENTLY IF EXISTS {index}

-- analyze --
ANALYZE {space}
