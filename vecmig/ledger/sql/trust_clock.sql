-- The clock of trust.

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
