-- What reads records, in pages, to find those that need a vector.
-- {records} is a sub-select over the source with columns k0, k1, … and txt; {stamps} is the relation of one tag.

-- looked_at --
SELECT NULL::uuid AS outbox, s.* FROM {records} s WHERE {after} AND {upto} ORDER BY {keys} LIMIT %(size)s

-- changed --
-- in the order of the digests, which an index has whatever the keys are like
SELECT c.digest AS outbox, s.*
FROM (SELECT c.key, md5(c.key::text)::uuid AS digest FROM {schema}.change c
      WHERE c.collection = %(collection)s AND md5(c.key::text)::uuid > %(after)s::uuid
      ORDER BY md5(c.key::text)::uuid LIMIT %(size)s) c
LEFT JOIN LATERAL (SELECT s.* FROM {records} s WHERE {changed_key} LIMIT 1) s ON true
ORDER BY c.digest

-- pending --
WITH page AS MATERIALIZED (
    SELECT s.*, {hash} AS hash
    FROM (SELECT l.*, row_number() OVER w AS n,
                 coalesce(sum(octet_length(l.txt)) OVER w, 0) - coalesce(octet_length(l.txt), 0) AS before
          FROM ({looked_at}) l WINDOW w AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)) s
    WHERE s.before < %(bytes)s
),
-- often no record of a page has a vector, and none was ever rejected: then they need not be looked up
near AS MATERIALIZED ({near}),
refused AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM {schema}.rejected r WHERE r.collection = %(collection)s AND r.tag = %(tag)s) AS found
)
-- OFFSET 0 keeps the planner from reading the vectors of all records for each page
SELECT p.n, p.hash::text, p.txt, NOT ((SELECT found FROM near) AND EXISTS (SELECT FROM {stamps} v WHERE {match} OFFSET 0)),
       {keys_text}
FROM page p
WHERE {eligible}
  AND NOT ((SELECT found FROM near)
           AND EXISTS (SELECT FROM {whole} v WHERE {match} AND v.source_hash = p.hash OFFSET 0))
  AND NOT ((SELECT found FROM refused)
           AND EXISTS (SELECT FROM {schema}.rejected r
                       WHERE r.collection = %(collection)s AND r.tag = %(tag)s
                         AND md5(r.key::text)::uuid = md5({key_json}::text)::uuid
                         AND r.source_hash = p.hash OFFSET 0))
  AND NOT {owned}
  AND NOT {kept}
UNION ALL
-- the last row tells how many records were looked at, and where to go on
SELECT count(*) + 1, NULL, (SELECT {place}::text FROM page p ORDER BY p.n DESC LIMIT 1), NULL, {no_keys}
FROM page

-- near --
-- a change in the outbox may name a record that is gone
SELECT EXISTS (
    SELECT
    FROM (SELECT {keys} FROM page WHERE k0 IS NOT NULL ORDER BY {keys} LIMIT 1) f,
         (SELECT {keys} FROM page WHERE k0 IS NOT NULL ORDER BY {keys_descending} LIMIT 1) l,
         LATERAL (SELECT FROM {stamps} v
                  WHERE v.tag = %(tag)s AND {within} LIMIT 1) v) AS found

-- near_any --
SELECT EXISTS (SELECT FROM {stamps}) AS found

-- split --
SELECT {keys_text}
FROM (SELECT {keys}, row_number() OVER (ORDER BY {keys}) AS n, count(*) OVER () AS total FROM {records} s) s
WHERE n < total AND n * %(parts)s / total > (n - 1) * %(parts)s / total
ORDER BY n

-- estimated_rows --
SELECT greatest(c.reltuples, 0)
       + coalesce((SELECT sum(greatest(p.reltuples, 0))
                   FROM pg_catalog.pg_partition_tree(c.oid) t
                   JOIN pg_catalog.pg_class p ON p.oid = t.relid
                   WHERE c.relkind = 'p' AND t.isleaf), 0)
FROM pg_catalog.pg_class c
WHERE c.oid = pg_catalog.to_regclass(%(name)s) AND c.relkind IN ('r', 'p', 'm')

-- sample_texts --
SELECT s.txt FROM {records} s WHERE {eligible} ORDER BY md5(concat_ws(' ', {keys})) LIMIT %(size)s

-- count_texts --
SELECT count(DISTINCT md5(s.txt)) FROM {records} s WHERE {eligible}
