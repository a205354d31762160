-- What operators tell runs, and what runs tell operators.

-- control --
SELECT collection, paused, reason, concurrency, max_rate, paused_at, paused_by
FROM {schema}.control
WHERE collection = %(collection)s

-- pause --
INSERT INTO {schema}.control AS c (collection, paused, reason, paused_at, paused_by)
VALUES (%(collection)s, true, %(reason)s, now(), session_user || ' on ' || %(host)s)
ON CONFLICT (collection) DO UPDATE
SET paused = true,
    reason = coalesce(excluded.reason, c.reason),
    paused_at = CASE WHEN c.paused THEN c.paused_at ELSE excluded.paused_at END,
    paused_by = CASE WHEN c.paused THEN c.paused_by ELSE excluded.paused_by END

-- resume --
UPDATE {schema}.control
SET paused = false, reason = NULL, paused_at = NULL, paused_by = NULL
WHERE collection = %(collection)s AND paused

-- tune --
INSERT INTO {schema}.control AS c (collection, concurrency, max_rate)
VALUES (%(collection)s, %(concurrency)s, %(max_rate)s)
ON CONFLICT (collection) DO UPDATE
SET concurrency = CASE WHEN %(set_concurrency)s THEN excluded.concurrency ELSE c.concurrency END,
    max_rate = CASE WHEN %(set_max_rate)s THEN excluded.max_rate ELSE c.max_rate END

-- runs --
SELECT id, collection, tag, what, host, pid, state, reason, done, total, rejected, rate, concurrency, started_at, seen_at
FROM {schema}.run
WHERE seen_at > clock_timestamp() - %(lost_after)s * interval '1 second'
ORDER BY collection, tag, started_at

-- report --
INSERT INTO {schema}.run AS r
    (id, collection, tag, what, host, pid, state, reason, done, total, rejected, rate, concurrency)
VALUES (%(id)s, %(collection)s, %(tag)s, %(what)s, %(host)s, %(pid)s, %(state)s, %(reason)s, %(done)s, %(total)s,
        %(rejected)s, %(rate)s, %(concurrency)s)
ON CONFLICT (id) DO UPDATE
SET state = excluded.state,
    reason = excluded.reason,
    done = excluded.done,
    total = excluded.total,
    rejected = excluded.rejected,
    rate = excluded.rate,
    concurrency = excluded.concurrency,
    seen_at = clock_timestamp()

-- end_run --
-- those of processes that were killed go along, a day after their last sign of life
DELETE FROM {schema}.run
WHERE id = %(id)s OR seen_at < clock_timestamp() - interval '1 day'

-- reserve --
-- in one statement, so that the processes of a fleet share one budget; no row comes back where it would be passed
INSERT INTO {schema}.spend AS s (revision, what, tokens, usd)
SELECT %(revision)s, %(what)s, %(tokens)s, %(usd)s
WHERE %(budget)s::numeric IS NULL OR %(usd)s::numeric <= %(budget)s::numeric
ON CONFLICT (revision, what) DO UPDATE
SET tokens = s.tokens + excluded.tokens, usd = s.usd + excluded.usd
WHERE %(budget)s::numeric IS NULL OR s.usd + excluded.usd <= %(budget)s::numeric
RETURNING s.usd

-- correct --
UPDATE {schema}.spend
SET tokens = tokens + %(tokens)s, usd = usd + %(usd)s
WHERE revision = %(revision)s AND what = %(what)s

-- spend --
SELECT revision, what, tokens, usd FROM {schema}.spend ORDER BY revision, what
