-- Locks: one runner per collection, and who stands in the way.

-- begin --
-- who this session is, for the day that its client has lost it: a number of a process alone may come back
SELECT pg_catalog.set_config('application_name', %(name)s, false), a.pid, a.backend_start
FROM pg_catalog.pg_stat_activity a
WHERE a.pid = pg_catalog.pg_backend_pid()

-- try_lock --
SELECT pg_catalog.pg_try_advisory_lock(%(key)s)

-- held --
SELECT (l.classid::bigint << 32 | l.objid::bigint)
FROM pg_catalog.pg_locks l
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND l.pid = pg_catalog.pg_backend_pid()

-- end_session --
-- A pooler may have given the process to an application meanwhile: only while it holds the lock is it the run's own.
-- Waits up to 5 s until it is gone, and its locks with it.
SELECT pg_catalog.pg_terminate_backend(a.pid, 5000)
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = %(key)s
  AND a.pid = %(pid)s AND a.backend_start = %(since)s AND a.application_name = %(name)s

-- holder --
SELECT a.pid, a.usename, a.application_name, a.client_addr::text, a.backend_start
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = %(key)s

-- limit --
-- the process is asked for here, because the driver knows of another one behind a pooler
SELECT pg_catalog.pg_backend_pid(), pg_catalog.set_config('lock_timeout', %(lock_timeout)s, %(local)s)

-- blockers --
-- pg_blocking_pids holds up the lock manager for a moment, so it is asked only about a session that does wait
-- process 0 stands for transactions that were prepared: they have no session, and are known by what they hold
SELECT b.pid, a.usename, a.application_name, a.state,
       pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start)::text,
       ARRAY(SELECT DISTINCT pg_catalog.quote_literal(x.gid)
             FROM pg_catalog.pg_locks l
             JOIN pg_catalog.pg_locks h
                 ON h.pid IS NULL AND h.granted AND h.locktype = l.locktype
                AND (h.database, h.relation, h.page, h.tuple, h.transactionid::text, h.classid, h.objid, h.objsubid)
                    IS NOT DISTINCT FROM
                    (l.database, l.relation, l.page, l.tuple, l.transactionid::text, l.classid, l.objid, l.objsubid)
             -- the lock that each transaction has on its own number ties the others to it
             JOIN pg_catalog.pg_locks o
                 ON o.pid IS NULL AND o.granted AND o.locktype = 'transactionid'
                AND o.virtualtransaction = h.virtualtransaction
             JOIN pg_catalog.pg_prepared_xacts x ON x.transaction::text = o.transactionid::text
             WHERE b.pid = 0 AND l.pid = w.pid AND NOT l.granted
             ORDER BY 1),
       a.xact_start
FROM pg_catalog.pg_stat_activity w
CROSS JOIN LATERAL unnest(pg_catalog.pg_blocking_pids(w.pid)) AS b(pid)
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
WHERE w.pid = %(pid)s AND w.wait_event_type = 'Lock'
GROUP BY w.pid, b.pid, a.usename, a.application_name, a.state, a.xact_start
ORDER BY a.xact_start
LIMIT 5

-- awaited --
-- who waits for a row has the lock of its place in the table, and waits for a transaction
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE l.pid = %(pid)s AND (NOT l.granted OR l.locktype = 'tuple')
LIMIT 1
