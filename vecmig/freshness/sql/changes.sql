-- The outbox that the triggers fill, see tracking.sql.

-- lock_batch --
SELECT (md5(c.key::text)::uuid)::text
FROM {schema}.change c
WHERE c.collection = %(collection)s AND md5(c.key::text)::uuid > %(after)s::uuid
ORDER BY md5(c.key::text)::uuid
LIMIT %(size)s
FOR UPDATE SKIP LOCKED

-- hold_relations --
-- an application that truncates the source locks it, then the vectors, then the outbox: whoever locks rows of the outbox
-- goes the same way
SELECT FROM {relations} LIMIT 0

-- maintained --
SELECT live, standby, candidate FROM {schema}.route WHERE collection = %(collection)s

-- sweep_emptied --
-- past what an application holds, which is taken the next time
DELETE FROM {stamps} v
WHERE v.ctid = ANY (ARRAY(
    SELECT v.ctid
    FROM {schema}.change c
    JOIN {rows} s ON {changed_key} AND s.belongs AND NOT coalesce({eligible}, false)
    JOIN {stamps} v ON {match} AND {bare}
    WHERE c.collection = %(collection)s AND md5(c.key::text)::uuid = ANY (%(digests)s::uuid[])
    FOR UPDATE OF v SKIP LOCKED))

-- sweep_rejected --
-- of texts that these records have no more
DELETE FROM {schema}.rejected r
WHERE r.collection = %(collection)s AND r.tag = %(tag)s AND md5(r.key::text)::uuid = ANY (%(digests)s::uuid[])
  AND NOT EXISTS (SELECT FROM {records} s WHERE {rejected_key} AND {hash} = r.source_hash)

-- forget_settled --
-- runs after lock_batch, so that its snapshot sees every edit whose outbox row it may delete. Of a row without a text the
-- last full passes may have seen one
WITH forgotten AS (
    DELETE FROM {schema}.change c
    WHERE c.collection = %(collection)s AND md5(c.key::text)::uuid = ANY (%(digests)s::uuid[]) AND NOT {unsettled}
    RETURNING c.key
)
UPDATE {schema}.last_full_pass p
SET beside = p.beside + n.emptied
FROM (SELECT count(*) AS emptied
      FROM forgotten c
      CROSS JOIN LATERAL (SELECT s.* FROM {rows} s WHERE {changed_key} LIMIT 1) s
      WHERE (s.belongs AND {eligible}) IS NOT TRUE) n
WHERE p.collection = %(collection)s AND n.emptied > 0

-- distrust --
-- nobody knows any more who it was
UPDATE {schema}.change c
SET vector_changed_in = NULL, text_changed_by = coalesce(c.text_changed_by, ARRAY['', ''])
WHERE c.collection = %(collection)s

-- unsettled --
EXISTS (SELECT FROM {rows} s
        WHERE {changed_key} AND s.belongs AND CASE WHEN {eligible} THEN ({unfinished}) ELSE ({emptied}) END)

-- emptied --
EXISTS (SELECT FROM {stamps} v WHERE {match})

-- unfinished --
(NOT EXISTS (SELECT FROM {whole} v WHERE {match} AND v.source_hash = {hash})
     AND NOT EXISTS (SELECT FROM {schema}.rejected r WHERE r.collection = c.collection AND r.tag = {tag}
                   AND {rejected_key} AND r.source_hash = {hash})
 OR {vector_due})

-- snapshot --
SELECT pg_catalog.pg_current_snapshot()::text

-- count_since --
-- All rows of transactions that were open at the snapshot or began later, whenever they commit; a row's time would miss
-- those that were open then. xmin has 32 bits: the current transaction's number lends it the upper half. Transactions
-- that had ended are not told apart beyond the oldest open one, because the numbers of savepoints are not in a snapshot.
SELECT count(*)
FROM {schema}.change c, pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()) AS latest(xid)
WHERE c.collection = %(collection)s
  AND latest.xid::text::bigint - ((latest.xid::text::bigint - c.xmin::text::bigint) & 4294967295)
      >= pg_catalog.pg_snapshot_xmin(%(since)s::pg_snapshot)::text::bigint

-- outbox --
SELECT count(*), min(changed_at) FROM {schema}.change WHERE collection = %(collection)s

-- lag --
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(c.changed_at)), 0)::float
FROM {schema}.change c
WHERE c.collection = %(collection)s AND {unsettled}

-- text_writers --
-- who changed texts last, and not the vectors in the source's own column that they were made from
SELECT c.text_changed_by[1], c.text_changed_by[2], count(*)
FROM {schema}.change c
WHERE c.collection = %(collection)s AND c.text_changed_by[1] <> '' AND {unsettled}
GROUP BY 1, 2
ORDER BY count(*) DESC, 1, 2

-- look --
-- one row for each collection that was asked for and has a route; what changed since a snapshot as in count_since
SELECT r.collection, r.live, r.standby, r.candidate, r.version,
       d.text_expression, d.where_expression, d.change_tracking, d.live_columns,
       EXISTS (SELECT FROM {schema}.revision v
               WHERE v.collection = r.collection AND v.new_tag = r.candidate
                 AND v.withdrawn_at IS NULL AND v.phase <> 'expanded'),
       EXISTS (SELECT FROM {schema}.change c
               WHERE c.collection = r.collection
                 AND (asked.since IS NULL
                      OR latest.xid::text::bigint
                             - ((latest.xid::text::bigint - c.xmin::text::bigint) & 4294967295)
                         >= pg_catalog.pg_snapshot_xmin(asked.since::pg_snapshot)::text::bigint)),
       coalesce((SELECT max(f.id) FROM {schema}.full_pass f WHERE f.collection = r.collection), 0),
       pg_catalog.pg_current_snapshot()::text
FROM unnest(%(collections)s::text[], %(since)s::text[]) AS asked (collection, since)
JOIN {schema}.route r ON r.collection = asked.collection
JOIN {schema}.collection d ON d.name = r.collection
CROSS JOIN pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()) AS latest (xid)

-- free --
-- the places in the list of the records that nobody holds now in a way that would keep their vectors from being written
SELECT c.at
FROM unnest(%(keys)s::jsonb[]) WITH ORDINALITY AS c (key, at)
CROSS JOIN LATERAL (SELECT FROM {records} s WHERE {changed_key} LIMIT 1 FOR KEY SHARE SKIP LOCKED) s
ORDER BY c.at
