-- Vectors that are the first dims of those of another tag, the base.

-- owned --
-- whether the base has a vector of the record's text, or is kept complete and will have it: it is never bought
(EXISTS (SELECT FROM {schema}.route r
         WHERE r.collection = {collection} AND {base} IN (r.live, r.standby, r.candidate))
 OR EXISTS (SELECT FROM (SELECT {record}.*) s, {base_whole} v
            WHERE {base_match} AND v.source_hash = {base_hash} OFFSET 0))
