-- Take over the first dims of the vectors of another tag, the base. {stamps} is the relation of one tag, {base} has the
-- vectors of the base, {first} is what is taken of one of them.

-- page --
SELECT s.* FROM {records} s WHERE {after} ORDER BY {keys} LIMIT %(size)s

-- noted --
SELECT s.*
FROM (SELECT c.key FROM {schema}.change c
      WHERE c.collection = %(collection)s AND md5(c.key::text)::uuid = ANY (%(digests)s::uuid[])) c
CROSS JOIN LATERAL (SELECT s.* FROM {records} s WHERE {changed_key} LIMIT 1) s

-- derive --
-- Only what is due is locked, and its text is compared again then. All chunks of a record are of one text. OFFSET 0 keeps
-- the planner from reading all stamps, a vector from being read from TOAST and a text from being hashed for each place that
-- names it: a hash is a seventh of a page's time.
WITH page AS MATERIALIZED (
    SELECT s.*, CASE WHEN {hash_kind} = {base_hash_kind} THEN s.hash ELSE {base_hash} END AS base_hash
    FROM (SELECT s.*, {hash} AS hash FROM ({page}) s OFFSET 0) s
),
lacking AS MATERIALIZED (
    SELECT s.*
    FROM page s
    WHERE {eligible}
      AND NOT EXISTS (SELECT FROM {whole} v WHERE {match} AND v.source_hash = s.hash OFFSET 0)
      AND EXISTS (SELECT FROM {base_whole} v WHERE {base_match} AND v.source_hash = s.base_hash OFFSET 0)
      {nonzero}
),
due AS MATERIALIZED (
    SELECT p.*
    FROM lacking p
    CROSS JOIN LATERAL (SELECT FROM {records} s WHERE {same_record} AND s.txt = p.txt LIMIT 1 {lock}) s
),
replaced AS (
    DELETE FROM {stamps} v
    WHERE v.ctid = ANY (ARRAY(SELECT o.ctid
                              FROM due s
                              CROSS JOIN LATERAL (SELECT v.ctid FROM {stamps} v WHERE {match} OFFSET 0) o))
    RETURNING 1
),
written AS (
    INSERT INTO {stamps} (tag, {stored}, chunk, chunks, embedding, source_hash, chunk_text)
    SELECT {tag}, {own_keys}, b.chunk, b.chunks, o.vector, s.hash, b.chunk_text
    FROM due s
    CROSS JOIN LATERAL (SELECT v.* FROM {base} v WHERE {base_match} AND v.source_hash = s.base_hash OFFSET 0) b
    CROSS JOIN LATERAL (SELECT {unit}({first}) AS vector OFFSET 0) o
    WHERE (SELECT count(*) FROM replaced) >= 0 AND {norm}(o.vector) > 0
    RETURNING chunk
)
SELECT (SELECT count(*) FROM page),
       (SELECT count(*) FROM written WHERE chunk = 0),
       (SELECT count(*) FROM due) - (SELECT count(*) FROM written WHERE chunk = 0),
       (SELECT json_build_array({keys_text}) FROM page s ORDER BY {descending} LIMIT 1)

-- nonzero --
-- a record is whole: where one of its chunks is zero in its first dims, it gets no vector
AND NOT EXISTS (SELECT FROM (SELECT v.* FROM {base} v WHERE {base_match} AND v.source_hash = s.base_hash OFFSET 0) b
                WHERE {norm}({first}) = 0)

-- in_column --
(SELECT v.tag, {stored}, v.chunk, v.chunks, v.source_hash, v.chunk_text, {payload} AS embedding
 FROM {stamps} v JOIN {source} t ON {match_source})

-- reject --
-- what the base cannot embed, this tag cannot either
INSERT INTO {schema}.rejected AS known (collection, tag, key, source_hash, reason)
SELECT r.collection, %(tag)s, r.key, {hash}, r.reason
FROM {schema}.rejected r
CROSS JOIN LATERAL (SELECT s.* FROM {records} s WHERE {rejected_key} LIMIT 1) s
WHERE r.collection = %(collection)s AND r.tag = {base_tag} AND r.source_hash = {base_hash}
  AND NOT EXISTS (SELECT FROM {whole} v WHERE {match} AND v.source_hash = {hash})
ON CONFLICT (collection, (md5(key::text)::uuid), tag) DO UPDATE
SET source_hash = excluded.source_hash, reason = excluded.reason, at = now()
