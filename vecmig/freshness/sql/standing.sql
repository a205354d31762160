-- How complete a tag is by what the outbox tells since all records were compared with its vectors. As long as the triggers
-- are at work, each record without a note has a fresh vector, was rejected as it is, or has no text.
-- {stamps} is the relation of one tag; {rows} is a sub-select over the source with columns k0, k1, …, belongs and txt.

-- subject --
-- what is compared with what: a relation that was made anew has another number
md5(concat_ws(' ', %(compared)s::text, pg_catalog.to_regclass(%(source)s)::oid::text,
              pg_catalog.to_regclass(%(stamps)s)::oid::text))::uuid

-- told_of --
-- something tells of each change, and nothing is set up to write past it
({triggers}) = cardinality(%(names)s::text[]) AND NOT EXISTS ({silent_writers})

-- since --
-- in one snapshot, and nothing is counted where there was no such pass; there is none where a note says that a comparison is
-- needed which this tag has not had since
SELECT p.at, p.textless, p.idle, p.beside, {counted}
FROM (SELECT p.*
      FROM {schema}.last_full_pass p
      WHERE p.collection = %(collection)s AND p.tag = %(tag)s AND p.records >= %(least)s AND p.subject = {subject}
        AND NOT EXISTS (SELECT FROM {schema}.full_pass f WHERE f.collection = p.collection AND NOT p.tag = ANY (f.passed))
        AND {told_of}
      OFFSET 0) p

-- compared --
SELECT now(), {counted}, m.*
FROM ({coverage}) m

-- counted --
-- {due}: the source's own vector changed, and was not taken over yet
-- what is known already is not counted again
coalesce(%(rows)s::bigint, (SELECT count(*) FROM {source})),
coalesce(%(stamped)s::bigint, (SELECT count(*) FROM {stamps} v WHERE v.chunk = 0)),
(SELECT ARRAY[count(*) FILTER (WHERE s.eligible),
              count(*) FILTER (WHERE s.eligible AND s.fresh),
              count(*) FILTER (WHERE s.eligible AND NOT s.fresh AND s.rejected),
              count(*) FILTER (WHERE s.eligible AND NOT s.fresh AND NOT s.rejected AND s.whole),
              count(*) FILTER (WHERE s.stamped),
              count(*) FILTER (WHERE NOT s.eligible)]
 FROM (SELECT s.eligible, v.source_hash IS NOT NULL AS whole, (v.source_hash = s.hash AND NOT s.due) IS TRUE AS fresh,
              EXISTS (SELECT FROM {stamps} v WHERE {match} AND v.chunk = 0 OFFSET 0) AS stamped,
              EXISTS (SELECT FROM {schema}.rejected r
                      WHERE r.collection = %(collection)s AND r.tag = %(tag)s AND r.source_hash = s.hash
                        AND md5(r.key::text)::uuid = md5({key_json}::text)::uuid OFFSET 0) AS rejected
       FROM (SELECT s.*, (s.belongs AND {eligible}) IS TRUE AS eligible, {hash} AS hash, {due} AS due
             FROM {schema}.change c
             CROSS JOIN LATERAL (SELECT s.* FROM {rows} s WHERE {changed_key} LIMIT 1) s
             WHERE c.collection = %(collection)s OFFSET 0) s
       LEFT JOIN LATERAL (SELECT v.source_hash FROM {whole} v WHERE {match} OFFSET 0) v ON true) s),
-- those that no note is about, and how many of them have a vector of an older text
(SELECT ARRAY[count(*), count(*) FILTER (WHERE EXISTS (SELECT FROM {stamps} v WHERE {match} AND v.chunk = 0 OFFSET 0))]
 FROM {schema}.rejected r
 CROSS JOIN LATERAL (SELECT s.* FROM {records} s WHERE {rejected_key} AND {hash} = r.source_hash LIMIT 1) s
 WHERE r.collection = %(collection)s AND r.tag = %(tag)s
   AND NOT EXISTS (SELECT FROM {schema}.change c
                   WHERE c.collection = r.collection AND md5(c.key::text)::uuid = md5(r.key::text)::uuid OFFSET 0))

-- enter --
INSERT INTO {schema}.last_full_pass AS p (collection, tag, at, subject, records, textless, idle, beside)
SELECT %(collection)s, %(tag)s, %(at)s, {subject}, %(records)s::bigint, %(textless)s::bigint, %(idle)s::bigint,
       %(beside)s::bigint
WHERE {told_of}
ON CONFLICT (collection, tag) DO UPDATE
SET at = excluded.at, subject = excluded.subject, records = excluded.records, textless = excluded.textless,
    idle = excluded.idle, beside = excluded.beside

-- lapse --
-- of the tags for which the outbox was not kept
DELETE FROM {schema}.last_full_pass p WHERE p.collection = %(collection)s AND p.tag <> ALL (%(tags)s::text[])
