-- Locks: one runner per collection, and who stands in the way.

-- try_lock --
SELECT pg_catalog.pg_try_advisory_lock(%(key)s)

-- holder --
SELECT a.pid, a.usename, a.application_name, a.client_addr::text, a.backend_start
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = %(key)s

-- blockers --
-- pg_blocking_pids holds up the lock manager for a moment, so it is asked only about a session that does wait
SELECT b.pid, a.usename, a.application_name, a.state,
       pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start)::text
FROM pg_catalog.pg_stat_activity w
CROSS JOIN LATERAL unnest(pg_catalog.pg_blocking_pids(w.pid)) AS b(pid)
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
WHERE w.pid = %(pid)s AND w.wait_event_type = 'Lock'
GROUP BY b.pid, a.usename, a.application_name, a.state, a.xact_start
ORDER BY a.xact_start
LIMIT 5
