-- What a key that became wider takes.

-- size --
SELECT coalesce(sum(pg_catalog.pg_total_relation_size(t.relid)), 0)
FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass(%(vectors)s)) t

-- policies --
SELECT p.polname, n.nspname, c.relname
FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass(%(vectors)s)) t
JOIN pg_catalog.pg_policy p ON p.polrelid = t.relid AND p.polname = 'vecmig_as_source'
JOIN pg_catalog.pg_class c ON c.oid = t.relid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace

-- drop_policy --
DROP POLICY {policy} ON {table}

-- vector_indexes --
SELECT n.nspname, c.relname
FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass(%(vectors)s)) t
JOIN pg_catalog.pg_index i ON i.indrelid = t.relid
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am m ON m.oid = c.relam AND m.amname = 'hnsw'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace

-- drop_index --
DROP INDEX {index}

-- drop_view --
DROP VIEW IF EXISTS {live}

-- drop_search --
DROP FUNCTION IF EXISTS {search}({query_type}, int, text)

-- alter --
ALTER TABLE {vectors} {alter}

-- typed --
ALTER COLUMN {column} TYPE {type}{collation}
