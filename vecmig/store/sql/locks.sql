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
SELECT a.pid, a.usename, a.application_name, a.state, pg_catalog.date_trunc('second', now() - a.xact_start)::text
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
  AND l.relation IN (SELECT pg_catalog.to_regclass(name) FROM unnest(%(relations)s::text[]) AS name)
GROUP BY a.pid, a.usename, a.application_name, a.state, a.xact_start
ORDER BY a.xact_start
LIMIT 5
