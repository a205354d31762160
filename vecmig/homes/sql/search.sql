-- The search of the reader. It goes through the vectors table, whose grants and row-level security are the reader's own.

-- search --
WITH nearest ({keys}, chunk, distance) AS MATERIALIZED (
    {nearest}
)
SELECT {n_keys}, n.chunk, n.distance, coalesce(v.chunk_text, r.txt), to_jsonb(s)
FROM nearest n
JOIN {source} s ON {same_source}
JOIN {records} r ON {same_record}
JOIN {vectors} v ON v.tag = {tag_literal} AND {same_vector} AND v.chunk = n.chunk
ORDER BY n.distance, {n_keys}, n.chunk

-- nearest --
SELECT {s_keys}, e.chunk, ({embedding} {operator} {query}::{index_type})::double precision
FROM {vectors} e
JOIN (SELECT {keys} FROM {source} WHERE {condition}) s ON {match}
WHERE e.tag = {tag}
ORDER BY ({embedding} {operator} {query}::{index_type}){order}
LIMIT {k}

-- reranked --
-- the exact distance of those that the index takes for the nearest
SELECT {c_keys}, c.chunk, c.distance
FROM (
    SELECT {s_keys}, e.chunk, ({embedding} {operator} {query}::{index_type})::double precision
    FROM {vectors} e
    JOIN (SELECT {keys} FROM {source} WHERE {condition}) s ON {match}
    WHERE e.tag = {tag} AND {has}
    ORDER BY {indexed} {index_operator} {indexed_query}
    LIMIT {k}::bigint * {candidates}
) c ({aliases}, chunk, distance)
ORDER BY c.distance
LIMIT {k}

-- keep_candidates --
-- HNSW finds no more than it keeps, and pgvector keeps at most 1,000
pg_catalog.set_config('hnsw.ef_search', greatest({kept}, least({least}, 1000))::text, true)

-- kept_candidates --
coalesce(nullif(pg_catalog.current_setting('hnsw.ef_search', true), ''), '40')::int
