-- What a tag must have earned, by the rows that tell of it, and how the vectors of the one before are removed.

-- clock --
-- reads moved last at changed_at, forward or back; go_live comes a moment after it. A ramp that is over has ended with the
-- next word on the route, with its candidate, or when reads moved.
SELECT greatest(v.live_at, r.changed_at),
       greatest(v.live_at, r.changed_at, (
           SELECT min(e.at)
           FROM {schema}.event e
           WHERE e.collection = r.collection AND e.kind IN ('route', 'abandon', 'cutover', 'rollback') AND e.at > (
               SELECT max(p.at)
               FROM {schema}.event p
               WHERE p.collection = r.collection AND p.kind = 'route' AND (p.data ->> 'ramp_share')::float8 > 0))),
       now()
FROM {schema}.route r
JOIN {schema}.revision v ON v.id = %(revision)s
WHERE r.collection = %(collection)s

-- shadow_errors --
-- whichever tag was live; what is told of vectors that were retired tells nothing of those made anew
SELECT count(s.error), count(*)
FROM {schema}.shadow s
JOIN {schema}.tag t ON t.collection = s.collection AND t.tag = s.other_tag AND s.at >= t.created_at
WHERE s.collection = %(collection)s AND s.other_tag = %(tag)s
  AND s.at > %(moved)s::timestamptz - make_interval(secs => %(seconds)s)

-- eval_pairs --
-- the last runs of each suite and day that two tags have in common
WITH last AS (
    SELECT DISTINCT ON (e.tag, e.suite, day) e.tag, e.suite, e.suite_fingerprint, e.id,
           (e.at AT TIME ZONE 'UTC')::date AS day
    FROM {schema}.eval e
    WHERE e.collection = %(collection)s AND e.tag IN (%(old)s, %(new)s)
      AND e.at >= %(since)s AND e.coverage >= %(coverage)s
    ORDER BY e.tag, e.suite, day, e.at DESC, e.id DESC
)
SELECT n.day, n.suite, o.id, n.id
FROM last n
JOIN last o ON (o.suite, o.day, o.suite_fingerprint) = (n.suite, n.day, n.suite_fingerprint)
WHERE n.tag = %(new)s AND o.tag = %(old)s
ORDER BY n.day, n.suite

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
