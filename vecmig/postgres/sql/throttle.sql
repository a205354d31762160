-- What says that a backfill should stand still: replicas that fall behind, and a query of the user's own.

-- position --
-- how far the primary has written its log, in bytes, and whether this role may see how far the replicas are
SELECT (pg_catalog.pg_current_wal_lsn() - '0/0')::bigint,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')

-- replicas --
-- those that replay: not a base backup, an archive of the log, or a subscriber
SELECT coalesce(nullif(r.application_name, ''), 'without a name'),
       pg_catalog.host(r.client_addr),
       (r.replay_lsn - '0/0')::bigint,
       extract(epoch FROM r.replay_lag)::float8
FROM pg_catalog.pg_stat_replication r
LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid
WHERE r.replay_lsn IS NOT NULL AND s.slot_type IS DISTINCT FROM 'logical'
ORDER BY r.pid

-- ask --
-- a SELECT around the user's, so that it can be nothing else; a second row is one too many
SELECT * FROM {query} AS throttle LIMIT 2
