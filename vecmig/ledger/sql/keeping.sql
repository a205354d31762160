-- What readers note for a while only.

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
