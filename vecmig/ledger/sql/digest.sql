-- For readers, who ask it as often as they search.

-- digest --
-- a digest of all that a reader builds on
SELECT pg_catalog.md5(pg_catalog.concat_ws(' ', pg_catalog.to_jsonb(r), pg_catalog.to_jsonb(c), (
    SELECT pg_catalog.string_agg(
        pg_catalog.concat_ws(' ', t.tag, t.dims, t.recipe, t.fingerprint, t.state, t.created_at,
                             pg_catalog.to_jsonb(t) -> 'index'), ' ' ORDER BY t.tag)
    FROM {schema}.tag t
    WHERE t.collection = r.collection)))
FROM {schema}.route r
JOIN {schema}.collection c ON c.name = r.collection
WHERE r.collection = %(collection)s
