-- A close look at a few vectors.

-- sample --
-- one of each equal part of the tag by age: what went wrong for a while cannot fall between them
SELECT coalesce(v.chunk_text, s.txt), {payload}::{vector}, {record}, {keys_text}
FROM {stamps} v
JOIN {records} s ON {match} AND v.source_hash = {hash} AND {payload} IS NOT NULL
WHERE v.ctid = ANY (ARRAY(
    SELECT DISTINCT ON (p.part) p.place
    FROM (SELECT d.ctid AS place, ntile(%(size)s) OVER (ORDER BY {age}, random()) AS part
          FROM {stamps} d {drawn}) p
    ORDER BY p.part, random()))
ORDER BY random()

-- longest --
SELECT coalesce(v.chunk_text, s.txt)
FROM {stamps} v
JOIN {records} s ON {match} AND v.source_hash = {hash}
WHERE v.ctid = ANY (ARRAY(SELECT d.ctid FROM {stamps} d {drawn} ORDER BY random() LIMIT %(size)s))
ORDER BY length(coalesce(v.chunk_text, s.txt)) DESC
LIMIT 1

-- pages --
SELECT pg_catalog.pg_relation_size(pg_catalog.to_regclass(%(name)s))
       / pg_catalog.current_setting('block_size')::bigint
