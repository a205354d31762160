-- How complete a tag is, and the sweep of what no record stands behind.
-- {records} is a sub-select over the source with columns k0, k1, … and txt; {stamps} is the relation of one tag.

-- coverage --
-- {due}: the source's own vector changed, and was not taken over yet
SELECT count(*) AS records,
       count(*) FILTER (WHERE s.eligible) AS eligible,
       count(*) FILTER (WHERE s.eligible AND v.source_hash = s.hash AND NOT {due}) AS fresh,
       count(*) FILTER (WHERE s.eligible AND (v.source_hash = s.hash AND NOT {due}) IS NOT TRUE
                          AND r.key IS NOT NULL) AS rejected,
       count(*) FILTER (WHERE s.eligible AND (v.source_hash <> s.hash OR (v.tag IS NOT NULL AND {due}))
                          AND r.key IS NULL) AS stale,
       count(*) FILTER (WHERE s.eligible AND (v.source_hash = s.hash AND NOT {due}) IS NOT TRUE
                          AND r.key IS NULL AND c.key IS NULL) AS unaccounted,
       coalesce(sum(v.chunks) FILTER (WHERE s.eligible), 0) AS vectors
-- OFFSET 0 keeps the planner from hashing a text once for every place that names its hash; before the first vector
-- there is nothing to compare it with
FROM (SELECT {keys}, {eligible} AS eligible,
             CASE WHEN (SELECT EXISTS (SELECT FROM {stamps})
                            OR EXISTS (SELECT FROM {schema}.rejected r
                                       WHERE r.collection = %(collection)s AND r.tag = %(tag)s))
                  THEN {hash} END AS hash
      FROM {records} s OFFSET 0) s
LEFT JOIN {whole} v ON {match}
LEFT JOIN {schema}.rejected r
    ON r.collection = %(collection)s AND r.tag = %(tag)s AND {rejected_key} AND r.source_hash = s.hash
LEFT JOIN {schema}.change c ON c.collection = %(collection)s AND {changed_key}

-- count_records --
SELECT count(*), count(*) FILTER (WHERE {eligible}) FROM {records} s

-- count_rows --
SELECT count(*) FROM {source}

-- count_vectors --
SELECT count(*), count(*) FILTER (WHERE v.chunk = 0) FROM {stamps} v

-- has_vectors --
SELECT EXISTS (SELECT FROM {stamps})

-- count_idle --
-- per chunk 0 but for the first figure, so that a record of many chunks counts once
SELECT count(*) FILTER (WHERE s.k0 IS NULL),
       count(*) FILTER (WHERE s.belongs AND v.chunk = 0 AND NOT coalesce({eligible}, false)),
       count(*) FILTER (WHERE s.belongs AND v.chunk = 0)
FROM {stamps} v
LEFT JOIN {rows} s ON {match}

-- sweep_gone --
DELETE FROM {stamps} v
WHERE NOT EXISTS (SELECT FROM {source} s WHERE {same_source})

-- sweep_emptied --
DELETE FROM {stamps} v
USING {rows} s
WHERE {match} AND {bare} AND s.belongs AND NOT coalesce({eligible}, false)
  AND (%(all)s OR EXISTS (
      SELECT FROM {schema}.change c WHERE c.collection = %(collection)s AND {changed_key}))

-- sweep_rejected --
DELETE FROM {schema}.rejected r
WHERE r.collection = %(collection)s AND r.tag = %(tag)s
  AND NOT EXISTS (SELECT FROM {records} s WHERE {rejected_key} AND {hash} = r.source_hash)

-- embedded_since --
SELECT count(*)
FROM (SELECT FROM {stamps} v WHERE v.chunk = 0 AND v.embedded_at > %(at)s LIMIT %(most)s) v
