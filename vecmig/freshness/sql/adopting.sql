-- Take over the vectors that the source itself has.
-- {offered} is a sub-select over the source with columns k0, k1, …, txt and vector; {stamps} is the relation of one tag;
-- {sound} is what every vector of the tag fulfils.

-- owned --
-- whether the source has a vector for a record of the page that is to be taken over: it is never bought
EXISTS (SELECT FROM {offered} o
        WHERE {same_record} AND o.vector IS NOT NULL AND {sound}
          AND CASE WHEN EXISTS (SELECT FROM {stamps} v WHERE {match}) THEN EXISTS ({vector_noted})
                   ELSE NOT EXISTS ({text_noted}) AND NOT EXISTS ({superseded}) END
        OFFSET 0)

-- kept --
-- whether the column that is the home has a vector of the application's, which is never replaced
EXISTS (SELECT FROM {source} t
        WHERE {same_source} AND t.{column} IS NOT NULL
          AND NOT EXISTS (SELECT FROM {stamps} v WHERE {match} AND t.{column}::{type} {equals} v.embedding)
        OFFSET 0)

-- vector_noted --
-- that the source's own vector changed, and was not taken over yet
SELECT FROM {schema}.change c
WHERE c.collection = {collection} AND md5(c.key::text)::uuid = md5({key_json}::text)::uuid
  AND c.vector_changed_in IS NOT NULL

-- text_noted --
-- that the text changed since the source's own vector was written
SELECT FROM {schema}.change c
WHERE c.collection = {collection} AND md5(c.key::text)::uuid = md5({key_json}::text)::uuid
  AND c.text_changed_by IS NOT NULL

-- superseded --
-- that the source's own vector is one which a text of the record has outlived
SELECT FROM {schema}.superseded x
WHERE x.collection = {collection} AND x.tag = {tag} AND md5(x.key::text)::uuid = md5({key_json}::text)::uuid
  AND x.vector = {digest}

-- outside --
-- What the outbox tells of rows that are no records now: of a text that changed alone, that it has outlived the source's own
-- vector; of a vector that changed, that the stamp is not of it any more. Gives those that an application is
-- about to take away, whose rows in the outbox are to stay
WITH noted AS MATERIALIZED (
    SELECT c.key, md5(c.key::text)::uuid AS digest, c.text_changed_by IS NOT NULL AS text_changed,
           c.vector_changed_in IS NOT NULL OR cardinality(c.text_changed_by) > 2 AS vector_changed
    FROM {schema}.change c
    WHERE c.collection = %(collection)s AND md5(c.key::text)::uuid = ANY (%(digests)s::uuid[])
      AND (c.vector_changed_in IS NOT NULL OR c.text_changed_by IS NOT NULL)
      AND EXISTS (SELECT FROM {others} s WHERE {changed_key})
),
seen AS MATERIALIZED (
    SELECT c.key, c.digest, c.text_changed, c.vector_changed, s.*
    FROM noted c
    CROSS JOIN LATERAL (SELECT s.* FROM {others} s WHERE {changed_key} LIMIT 1 FOR KEY SHARE SKIP LOCKED) s
),
outlived AS (
    INSERT INTO {schema}.superseded (collection, tag, key, vector)
    SELECT %(collection)s, %(tag)s, s.key, {digest} FROM seen s WHERE s.text_changed AND s.vector IS NOT NULL
    ON CONFLICT (collection, (md5(key::text)::uuid), tag) DO UPDATE SET vector = excluded.vector
),
renewed AS (
    DELETE FROM {schema}.superseded x
    WHERE x.collection = %(collection)s AND x.tag = %(tag)s
      AND md5(x.key::text)::uuid IN (SELECT s.digest FROM seen s WHERE NOT s.text_changed)
),
replaced AS (
    DELETE FROM {stamps} v
    WHERE v.ctid = ANY (ARRAY(SELECT o.ctid
                              FROM seen s
                              CROSS JOIN LATERAL (SELECT v.ctid FROM {stamps} v WHERE {match} AND {not_filled} OFFSET 0) o
                              WHERE s.vector_changed))
)
SELECT n.digest::text FROM noted n WHERE n.digest NOT IN (SELECT s.digest FROM seen s)

-- due --
SELECT count(*)
FROM {schema}.change noted
CROSS JOIN LATERAL (SELECT s.* FROM {records} s WHERE {noted_key} LIMIT 1) p
WHERE noted.collection = %(collection)s AND {eligible} AND {owned}

-- theirs --
-- what has no fresh stamp, where the column has a vector of the application's that is not to be taken over
SELECT count(*)
FROM (SELECT s.*, {hash} AS hash FROM {records} s WHERE {eligible} OFFSET 0) s
WHERE NOT EXISTS (SELECT FROM {whole} v WHERE {match} AND v.source_hash = s.hash OFFSET 0) AND {kept} AND NOT {owned}

-- outlived --
-- a record whose text went has its vector in the source still, which is not that of the text to come
WITH swept AS ({sweep} RETURNING v.*)
INSERT INTO {schema}.superseded (collection, tag, key, vector)
SELECT %(collection)s, v.tag, jsonb_build_array({key}), {digest} FROM swept v WHERE v.chunk = 0 AND v.embedding IS NOT NULL
ON CONFLICT DO NOTHING
