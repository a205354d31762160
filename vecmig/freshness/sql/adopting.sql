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

-- due --
SELECT count(*)
FROM {schema}.change noted
CROSS JOIN LATERAL (SELECT s.* FROM {records} s WHERE {noted_key} LIMIT 1) p
WHERE noted.collection = %(collection)s AND {eligible} AND {owned}

-- outlived --
-- a record whose text went has its vector in the source still, which is not that of the text to come
WITH swept AS ({sweep} RETURNING v.*)
INSERT INTO {schema}.superseded (collection, tag, key, vector)
SELECT %(collection)s, v.tag, jsonb_build_array({key}), {digest} FROM swept v WHERE v.chunk = 0 AND v.embedding IS NOT NULL
ON CONFLICT DO NOTHING
