-- How a tag grew, by its stamps. {stamps} is the relation of one tag.

-- pages --
SELECT pg_relation_size(to_regclass(%(name)s)) / current_setting('block_size')::int

-- made_at --
-- when the record at each of these shares of them all, in the order in which they were embedded, was embedded
SELECT percentile_disc(%(shares)s::double precision[]) WITHIN GROUP (ORDER BY v.embedded_at)
FROM {stamps} v {drawn}
WHERE v.chunk = 0

-- waiting --
-- how many changes are noted, by how long ago
SELECT count(*) FILTER (WHERE waited < interval '10 s'),
       count(*) FILTER (WHERE waited >= interval '10 s' AND waited < interval '1 min'),
       count(*) FILTER (WHERE waited >= interval '1 min' AND waited < interval '10 min'),
       count(*) FILTER (WHERE waited >= interval '10 min' AND waited < interval '1 h'),
       count(*) FILTER (WHERE waited >= interval '1 h' AND waited < interval '1 day'),
       count(*) FILTER (WHERE waited >= interval '1 day')
FROM (SELECT clock_timestamp() - c.changed_at AS waited
      FROM {schema}.change c WHERE c.collection = %(collection)s) c
