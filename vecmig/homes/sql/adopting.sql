-- Take over the vectors that the source itself has, into a tag.
-- {offered} is a sub-select over the source with columns k0, k1, …, txt and vector; {stamps} is the relation of one tag;
-- {sound} is what every vector of the tag fulfils; {payload} is what the tag keeps beside a stamp; {read} is s.vector, read
-- from TOAST. Each function that is given a vector reads it from there again, which costs more than what it does with it.

-- page --
-- A vector, its stamp and the hash of its text are of one snapshot, and the record stays until this commits; what has a
-- stamp is neither locked nor counted. No text is kept for later; OFFSET 0 keeps the planner from reading all stamps for
-- each page.
WITH page AS MATERIALIZED (
    SELECT {keys}, s.vector, {eligible} AS eligible, {hash} AS hash
    FROM (SELECT s.*
          FROM {offered} s
          WHERE {after} AND NOT EXISTS (SELECT FROM {stamps} v WHERE {match} OFFSET 0)
            AND NOT EXISTS ({text_noted} OFFSET 0)
            AND NOT EXISTS ({superseded} OFFSET 0)
          ORDER BY {keys}
          LIMIT %(size)s {lock}) s
),
due AS MATERIALIZED (
    SELECT s.*, ({sound}) IS TRUE AS sound
    FROM page s
    CROSS JOIN LATERAL (SELECT {read} AS vector OFFSET 0) o
    WHERE s.vector IS NOT NULL AND s.eligible
),
written AS (
    INSERT INTO {stamps} (tag, {stored}, embedding, source_hash)
    SELECT {tag}, {keys}, {payload}, s.hash FROM due s WHERE s.sound
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT (SELECT count(*) FROM page),
       (SELECT count(*) FROM written),
       (SELECT count(*) FROM due d WHERE NOT d.sound),
       (SELECT json_build_array({keys_text}) FROM page s ORDER BY {descending} LIMIT 1)

-- differing --
-- copies that are not what the source has, of which nothing told. What is superseded, or stands in the outbox, has another
-- way; only what differs is locked, and looked at again
WITH page AS MATERIALIZED (
    SELECT {keys}, s.vector FROM {offered} s WHERE {after} ORDER BY {keys} LIMIT %(size)s
),
differing AS MATERIALIZED (
    SELECT {own_keys}
    FROM page s
    CROSS JOIN LATERAL (SELECT {read} AS vector OFFSET 0) o
    CROSS JOIN LATERAL (SELECT v.embedding FROM {stamps} v WHERE {match} OFFSET 0) c
    WHERE s.vector IS NOT NULL AND NOT o.vector {equals} c.embedding
      AND NOT EXISTS (SELECT FROM {schema}.change c
                      WHERE c.collection = %(collection)s AND md5(c.key::text)::uuid = md5({key_json}::text)::uuid)
      AND NOT EXISTS ({superseded})
    ORDER BY {own_keys}
    LIMIT %(most)s
),
due AS MATERIALIZED (
    SELECT s.*
    FROM differing d
    CROSS JOIN LATERAL (SELECT s.* FROM {offered} s WHERE {same_record} LIMIT 1 {lock}) s
    CROSS JOIN LATERAL (SELECT {read} AS vector OFFSET 0) o
    WHERE {eligible} AND {sound}
),
replaced AS (
    DELETE FROM {stamps} v
    WHERE v.ctid = ANY (ARRAY(SELECT o.ctid
                              FROM due s
                              CROSS JOIN LATERAL (SELECT v.ctid FROM {stamps} v WHERE {match} OFFSET 0) o))
    RETURNING 1
),
written AS (
    INSERT INTO {stamps} (tag, {stored}, embedding, source_hash)
    SELECT {tag}, {keys}, {payload}, {hash} FROM due s WHERE (SELECT count(*) FROM replaced) >= 0
    RETURNING 1
)
SELECT (SELECT count(*) FROM page),
       (SELECT count(*) FROM written),
       0,
       (SELECT json_build_array({keys_text})
        FROM (SELECT {keys} FROM differing WHERE (SELECT count(*) FROM differing) = %(most)s
              UNION ALL
              SELECT {keys} FROM page WHERE (SELECT count(*) FROM differing) < %(most)s) s
        ORDER BY {descending} LIMIT 1)

-- forget_superseded --
-- of records that are gone
DELETE FROM {schema}.superseded x
WHERE x.collection = %(collection)s AND x.tag = %(tag)s
  AND NOT EXISTS (SELECT FROM {source} t WHERE {match_superseded})

-- any_left --
-- a vector that nothing has taken over, and of which no note is on its way
SELECT EXISTS (
    SELECT FROM {offered} s
    CROSS JOIN LATERAL (SELECT {read} AS vector OFFSET 0) o
    WHERE s.vector IS NOT NULL AND {eligible} AND ({sound}) IS TRUE
      AND NOT EXISTS (SELECT FROM {stamps} v WHERE {match} OFFSET 0)
      AND NOT EXISTS (SELECT FROM {schema}.change c
                      WHERE c.collection = %(collection)s AND md5(c.key::text)::uuid = md5({key_json}::text)::uuid OFFSET 0)
      AND NOT EXISTS ({superseded} OFFSET 0))

-- emptied --
-- stamps of records whose column has no vector any more, of which nothing told
DELETE FROM {stamps} v USING {offered} s WHERE {match} AND s.vector IS NULL

-- changed --
-- runs after lock_batch, so that its snapshot sees every change whose note it settles; what is written takes the place of
-- what was there, and updates nothing
WITH noted AS MATERIALIZED (
    SELECT c.key, c.vector_changed_in IS NOT NULL AS vector_changed, c.text_changed_by IS NOT NULL AS text_changed,
           cardinality(c.text_changed_by) > 2 AS vector_changed_before, md5(c.key::text)::uuid AS digest
    FROM {schema}.change c
    WHERE c.collection = %(collection)s AND md5(c.key::text)::uuid = ANY (%(digests)s::uuid[])
),
due AS MATERIALIZED (
    SELECT s.*, c.digest, ({sound}) IS TRUE AS sound
    FROM noted c
    CROSS JOIN LATERAL (SELECT s.* FROM {offered} s WHERE {changed_key} LIMIT 1 {lock}) s
    CROSS JOIN LATERAL (SELECT {read} AS vector OFFSET 0) o
    WHERE {eligible}
      AND CASE WHEN EXISTS (SELECT FROM {stamps} v WHERE {match} OFFSET 0) THEN c.vector_changed
               -- where nothing but `where` let it in, its vector is of its text unless the text was edited outside
               ELSE NOT c.text_changed AND (c.vector_changed OR NOT EXISTS ({superseded})) END
),
replaced AS (
    DELETE FROM {stamps} v
    WHERE v.ctid = ANY (ARRAY(SELECT o.ctid
                              FROM due s
                              CROSS JOIN LATERAL (SELECT v.ctid FROM {stamps} v WHERE {match} OFFSET 0) o
                              WHERE s.sound OR {in_place}))
    RETURNING 1
),
-- in place, what was stamped is not there any more, and what is there is not of this text, whatever the stamp's hash says
outdated AS (
    DELETE FROM {stamps} v
    WHERE v.ctid = ANY (ARRAY(SELECT v.ctid
                              FROM noted c
                              CROSS JOIN LATERAL (SELECT s.* FROM {offered} s WHERE {changed_key} LIMIT 1) s
                              JOIN {stamps} v ON {match} AND {not_filled}
                              WHERE {in_place} AND c.vector_changed_before
                              FOR UPDATE OF v SKIP LOCKED))
),
written AS (
    INSERT INTO {stamps} (tag, {stored}, embedding, source_hash)
    SELECT {tag}, {keys}, {payload}, {hash} FROM due s WHERE s.sound AND (SELECT count(*) FROM replaced) >= 0
    RETURNING 1
),
forgotten AS (
    DELETE FROM {schema}.superseded x
    WHERE x.collection = %(collection)s AND x.tag = %(tag)s
      AND md5(x.key::text)::uuid IN (SELECT d.digest FROM due d)
),
settled AS (
    UPDATE {schema}.change c SET vector_changed_in = NULL
    WHERE c.collection = %(collection)s AND c.vector_changed_in IS NOT NULL
      AND md5(c.key::text)::uuid IN (SELECT d.digest FROM due d)
)
SELECT (SELECT count(*) FROM noted), (SELECT count(*) FROM written)

-- own_fill --
(SELECT v.embedding FROM {stamps} v WHERE {match} AND v.embedding {equals} s.vector OFFSET 0)

-- survey --
-- what there is to adopt, by size; a vector is padded where it is zero behind the tag's dims
SELECT d.dims, count(*), count(*) FILTER (WHERE d.norm = 0), min(d.norm) FILTER (WHERE d.norm > 0), max(d.norm),
       count(*) FILTER (WHERE d.padded)
-- OFFSET 0 keeps the planner from measuring a vector once for every place that names its length
FROM (SELECT {vector_dims}(o.vector) AS dims, {vector_norm}(o.vector) AS norm,
             CASE WHEN {vector_dims}(o.vector) > {dims}
                  THEN {vector_norm}({subvector}(o.vector, {dims} + 1, {vector_dims}(o.vector) - {dims})) = 0
                  ELSE false END AS padded
      FROM {offered} s
      CROSS JOIN LATERAL (SELECT {read} AS vector OFFSET 0) o
      WHERE s.vector IS NOT NULL OFFSET 0) d
GROUP BY d.dims
ORDER BY count(*) DESC, d.dims

-- count_offered --
SELECT count(*) FROM {offered} s WHERE {vector_dims}(s.vector) = {dims} AND {eligible}
