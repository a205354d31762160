-- What a tag must have earned, by the rows that tell of it, and how the vectors of the one before are removed.

-- retired_at --
SELECT max(at)
FROM {schema}.event
WHERE collection = %(collection)s AND tag = %(tag)s AND kind IN ('retire', 'retired')

-- partition --
SELECT CASE WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'pending' ELSE 'attached' END,
       pg_catalog.pg_total_relation_size(c.oid)
FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = pg_catalog.to_regclass(%(vectors)s)
WHERE c.oid = pg_catalog.to_regclass(%(partition)s)

-- leave_route --
-- neither the live tag nor a candidate leaves, whatever was looked at before
UPDATE {schema}.route
SET standby = nullif(standby, %(tag)s), shadow_tag = nullif(shadow_tag, %(tag)s)
WHERE collection = %(collection)s AND live IS DISTINCT FROM %(tag)s AND candidate IS DISTINCT FROM %(tag)s

-- retire_revisions --
-- the way back from these is gone with their old tag
UPDATE {schema}.revision
SET phase = 'retired', updated_at = now()
WHERE collection = %(collection)s AND old_tag = %(tag)s AND phase = 'live'

-- detach --
ALTER TABLE {vectors} DETACH PARTITION {partition} CONCURRENTLY

-- finalize --
ALTER TABLE {vectors} DETACH PARTITION {partition} FINALIZE

-- drop --
DROP TABLE {partition}
