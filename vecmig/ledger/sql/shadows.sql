-- What two tags answered to the same searches.

-- record --
INSERT INTO {schema}.shadow
    (collection, live_tag, other_tag, k, overlap, rbo, top_changed, live_ms, other_ms, error, query_hash, query)
VALUES
    (%(collection)s, %(live_tag)s, %(other_tag)s, %(k)s, %(overlap)s, %(rbo)s, %(top_changed)s, %(live_ms)s,
     %(other_ms)s, %(error)s, %(query_hash)s, %(query)s)

-- pairs --
SELECT live_tag, other_tag, count(*), min(at), max(at),
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY live_ms),
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY other_ms)
FROM {schema}.shadow
WHERE collection = %(collection)s
GROUP BY live_tag, other_tag
ORDER BY max(at) DESC

-- errors --
SELECT live_tag, other_tag, error, count(*)
FROM {schema}.shadow
WHERE collection = %(collection)s AND error IS NOT NULL
GROUP BY live_tag, other_tag, error
ORDER BY count(*) DESC, error

-- questions --
-- each question once, as it was answered last: one that is asked all day tells no more than once
SELECT DISTINCT ON (query_hash) query_hash, query, overlap, rbo, top_changed, k
FROM {schema}.shadow
WHERE collection = %(collection)s AND live_tag = %(live_tag)s AND other_tag = %(other_tag)s AND error IS NULL
ORDER BY query_hash, at DESC

-- count_pair --
-- a tag that was discarded or retired, and begun anew, starts from nothing
SELECT count(*) FILTER (WHERE s.error IS NULL), count(*) FILTER (WHERE s.error IS NOT NULL)
FROM {schema}.shadow s
JOIN {schema}.tag t ON t.collection = s.collection AND t.tag = s.other_tag AND s.at >= t.created_at
WHERE s.collection = %(collection)s AND s.live_tag = %(live_tag)s AND s.other_tag = %(other_tag)s
