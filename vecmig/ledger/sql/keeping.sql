-- What is noted for a while only.

-- forget_shadows --
-- The oldest shadow reads of a collection, no more than a batch. Of a tag that is live or a candidate, gate and trust go
-- by them, so that the days are counted from its last one; of others from now. One step of the index leads from pair to
-- pair of tags.
WITH RECURSIVE pair (live_tag, other_tag) AS (
    (SELECT s.live_tag, s.other_tag FROM {schema}.shadow s
     WHERE s.collection = %(collection)s
     ORDER BY s.live_tag, s.other_tag LIMIT 1)
    UNION ALL
    SELECT n.live_tag, n.other_tag
    FROM pair p
    CROSS JOIN LATERAL (
        SELECT s.live_tag, s.other_tag FROM {schema}.shadow s
        WHERE s.collection = %(collection)s AND (s.live_tag, s.other_tag) > (p.live_tag, p.other_tag)
        ORDER BY s.live_tag, s.other_tag LIMIT 1) n),
old (ids) AS (
    SELECT ARRAY(
        SELECT o.id
        FROM pair p
        CROSS JOIN LATERAL (
            SELECT CASE WHEN EXISTS (SELECT FROM {schema}.route r
                                     WHERE r.collection = %(collection)s AND p.other_tag IN (r.live, r.candidate))
                        THEN (SELECT max(s.at) FROM {schema}.shadow s
                              WHERE s.collection = %(collection)s AND s.live_tag = p.live_tag AND s.other_tag = p.other_tag)
                        ELSE pg_catalog.now() END) l (until)
        CROSS JOIN LATERAL (
            SELECT s.id FROM {schema}.shadow s
            WHERE s.collection = %(collection)s AND s.live_tag = p.live_tag AND s.other_tag = p.other_tag
              AND s.at < l.until - %(keep)s::interval
            ORDER BY s.at
            LIMIT %(batch)s) o
        LIMIT %(batch)s))
DELETE FROM {schema}.shadow s USING old o WHERE s.id = ANY (o.ids)

-- forget_syncs --
-- The oldest events of a collection's syncs, no more than a batch; the last one of each kind and tag stays.
WITH old (ids) AS (
    SELECT ARRAY(
        SELECT e.id FROM {schema}.event e
        WHERE e.collection = %(collection)s AND e.at < pg_catalog.now() - %(keep)s::interval
          AND (e.kind = 'sync' OR e.kind IN ('failed', 'succeeded') AND e.data ->> 'what' LIKE 'sync%%')
          AND EXISTS (SELECT FROM {schema}.event n
                      WHERE n.collection = e.collection AND n.kind = e.kind AND n.tag IS NOT DISTINCT FROM e.tag
                        AND n.data ->> 'what' IS NOT DISTINCT FROM e.data ->> 'what' AND (n.at, n.id) > (e.at, e.id))
        ORDER BY e.at
        LIMIT %(batch)s))
DELETE FROM {schema}.event e USING old o WHERE e.id = ANY (o.ids)
