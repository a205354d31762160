-- How the vectors of a tag are taken out of use and removed.

-- partition --
SELECT CASE WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'pending' ELSE 'attached' END,
       pg_catalog.pg_total_relation_size(c.oid)
FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = pg_catalog.to_regclass(%(vectors)s)
WHERE c.oid = pg_catalog.to_regclass(%(partition)s)

-- detach --
ALTER TABLE {vectors} DETACH PARTITION {partition} CONCURRENTLY

-- finalize --
ALTER TABLE {vectors} DETACH PARTITION {partition} FINALIZE

-- drop --
DROP TABLE {partition}
