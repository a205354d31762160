-- Take over the vectors that the source itself has.
-- {offered} is a sub-select over the source with columns k0, k1, …, txt and vector; {stamps} is the relation of one tag;
-- {sound} is what every vector of the tag fulfils.

-- owned --
-- whether the source has a vector for a record of the page that is to be taken over: it is never bought
EXISTS (SELECT FROM {offered} o
        WHERE {same_record} AND o.vector IS NOT NULL AND {sound}
          AND (NOT EXISTS (SELECT FROM {stamps} v WHERE {match})
               OR EXISTS (SELECT FROM {schema}.change c
                          WHERE c.collection = %(collection)s AND c.vector_changed AND {changed_key}))
        OFFSET 0)

-- due --
SELECT count(*)
FROM {schema}.change noted
CROSS JOIN LATERAL (SELECT s.* FROM {records} s WHERE {noted_key} LIMIT 1) p
WHERE noted.collection = %(collection)s AND {eligible} AND {owned}
