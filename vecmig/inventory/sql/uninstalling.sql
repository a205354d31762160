-- What vecmig made, by the ledger, by definitions and by what depends on what; and what of a team's own rests on it. A name
-- alone makes nothing vecmig's.

-- collections --
-- the collections of which something is there, whether the ledger knows them or not: by the comments on vectors tables, by
-- the triggers' functions beside the ledger, and by the search functions that read vectors beside it
SELECT substr(d.text, length(%(before)s) + 1, length(d.text) - length(%(before)s) - length(%(after)s))
FROM pg_catalog.pg_class c
CROSS JOIN LATERAL (SELECT pg_catalog.obj_description(c.oid, 'pg_class')) AS d (text)
WHERE c.relkind = 'p' AND pg_catalog.starts_with(d.text, %(before)s) AND right(d.text, length(%(after)s)) = %(after)s
UNION
SELECT pg_catalog.regexp_replace(p.proname, '_track$', '')
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %(ledger)s AND p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype AND p.proname ~ '_track$'
UNION
SELECT b.name
FROM pg_catalog.pg_proc p
CROSS JOIN LATERAL (SELECT pg_catalog.regexp_replace(p.proname, '_search$', '')) AS b (name)
WHERE p.proname ~ '_search$' AND strpos(p.prosrc, 'VM001') > 0
  AND strpos(p.prosrc, pg_catalog.concat('"', replace(%(ledger)s::text, '"', '""'), '"."',
                                         replace(b.name, '"', '""'), '_vectors"')) > 0
ORDER BY 1

-- pieces --
-- All of one collection, in the order in which it can be dropped. Where the ledger does not know it, home and place are
-- NULL, and only what names the ledger's schema counts.
WITH vectors (oid, schema, quoted) AS MATERIALIZED (
    SELECT c.oid, n.nspname,
           pg_catalog.concat('"', replace(n.nspname, '"', '""'), '"."', replace(c.relname, '"', '""'), '"')
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (SELECT pg_catalog.obj_description(c.oid, 'pg_class')) AS d (text)
    WHERE c.relkind = 'p' AND pg_catalog.pg_get_partkeydef(c.oid) = 'LIST (tag)'
      AND (SELECT count(*) FROM pg_catalog.pg_attribute a
           WHERE a.attrelid = c.oid AND NOT a.attisdropped
             AND a.attname IN ('tag', 'chunk', 'source_hash', 'embedded_at')) = 4
      AND (d.text = %(comment)s
           OR n.nspname = %(place)s AND c.relname = %(vectors)s AND NOT EXISTS (
               -- another ledger that is there
               SELECT
               FROM pg_catalog.pg_namespace o
               JOIN pg_catalog.pg_class t ON t.relnamespace = o.oid AND t.relname IN ('schema_version', 'route', 'revision')
               WHERE o.nspname <> %(ledger)s AND o.nspname = replace(substring(
                         d.text FROM 'vecmig \(ledger in schema "((?:[^"]|"")*)"\)'), '""', '"')))),
parts (oid, parent, made, tag) AS MATERIALIZED (
    SELECT c.oid, v.oid, own.made, substring(own.text FROM '^vecmig: (.*)$')
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
    LEFT JOIN vectors v ON v.oid = i.inhparent
    CROSS JOIN LATERAL (SELECT pg_catalog.obj_description(c.oid, 'pg_class')) AS d (text)
    CROSS JOIN LATERAL (
        SELECT d.text, starts_with(d.text, 'vecmig: ') IS TRUE OR EXISTS (
            SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.conname = 'vecmig_tag')) AS own (text, made)
    WHERE v.oid IS NOT NULL
       -- a retire has detached it
       OR c.relkind = 'r' AND i.inhrelid IS NULL AND c.relname = ANY (%(partitions)s) AND own.made
          AND (n.nspname = %(place)s OR n.nspname IN (SELECT w.schema FROM vectors w))),
tracking (oid) AS MATERIALIZED (
    SELECT p.oid
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = %(ledger)s AND (
        p.proname = %(track)s AND p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype
        -- what it calls
        OR p.proname = %(track)s || '_rest' AND p.prorettype = 'pg_catalog.void'::pg_catalog.regtype))
SELECT x.kind, x.oid::bigint, x.schema, x.name, x.arguments, x.shown, pg_catalog.pg_get_userbyid(x.owner),
       pg_catalog.pg_has_role(x.owner, 'USAGE') OR coalesce(pg_catalog.pg_has_role(x.other, 'USAGE'), false), x.bytes, x.tag
FROM (
    -- a partition's clone goes with the trigger of its parent; only the owner of a table takes one off
    SELECT 1 AS place, 'trigger' AS kind, t.oid, NULL::name AS schema, t.tgname AS name, NULL AS arguments,
           pg_catalog.format('%%I on %%s', t.tgname, c.oid::pg_catalog.regclass) AS shown, c.relowner AS owner,
           NULL::oid AS other, NULL::bigint AS bytes, NULL AS tag
    FROM pg_catalog.pg_trigger t
    JOIN tracking f ON f.oid = t.tgfoid
    JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    WHERE t.tgparentid = 0
    UNION ALL
    SELECT CASE WHEN p.oid IN (SELECT oid FROM tracking) THEN 2 ELSE 4 END,
           CASE WHEN p.oid IN (SELECT oid FROM tracking) THEN 'trigger function'
                WHEN n.nspname = %(ledger)s AND p.proname = %(pick)s THEN 'view function' ELSE 'search function' END,
           p.oid, n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid),
           p.oid::pg_catalog.regprocedure::text, p.proowner, n.nspowner, NULL, NULL
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.oid IN (SELECT oid FROM tracking)
       OR n.nspname = %(ledger)s AND p.proname = %(pick)s
       OR p.prokind = 'f' AND p.proname = %(search)s AND n.nspname = coalesce(%(home)s, n.nspname)
          AND strpos(p.prosrc, 'VM00') > 0
          AND (strpos(p.prosrc, %(read)s) > 0
               OR EXISTS (SELECT FROM vectors v WHERE strpos(p.prosrc, v.quoted) > 0)
               -- while no tag is live it reads nothing
               OR %(home)s::text IS NOT NULL AND strpos(p.prosrc, 'VM003') > 0)
    UNION ALL
    SELECT 3, 'live view', c.oid, n.nspname, c.relname, NULL, c.oid::pg_catalog.regclass::text, c.relowner, n.nspowner,
           NULL, NULL
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'v' AND c.relname = %(live)s AND n.nspname = coalesce(%(home)s, n.nspname)
      AND (SELECT count(*) FROM pg_catalog.pg_attribute a
           WHERE a.attrelid = c.oid AND a.attname IN ('tag', 'chunk', 'embedding')) = 3
      AND EXISTS (
          SELECT
          FROM pg_catalog.pg_rewrite r
          JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
                                     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
          JOIN vectors v ON v.oid = d.refobjid
          WHERE r.ev_class = c.oid)
    UNION ALL
    SELECT 5, 'vectors', c.oid, n.nspname, c.relname, NULL, c.oid::pg_catalog.regclass::text, c.relowner, n.nspowner,
           NULL, NULL
    FROM vectors v
    JOIN pg_catalog.pg_class c ON c.oid = v.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    UNION ALL
    -- what is attached goes with the vectors table, so its owner does not matter
    SELECT CASE WHEN p.parent IS NULL THEN 6 ELSE 7 END,
           CASE WHEN NOT p.made THEN 'stranger' WHEN p.parent IS NULL THEN 'detached' ELSE 'partition' END,
           c.oid, n.nspname, c.relname, NULL, c.oid::pg_catalog.regclass::text, coalesce(w.relowner, c.relowner),
           CASE WHEN w.oid IS NULL THEN n.nspowner END, pg_catalog.pg_total_relation_size(c.oid), p.tag
    FROM parts p
    JOIN pg_catalog.pg_class c ON c.oid = p.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_class w ON w.oid = p.parent) AS x
ORDER BY x.place, x.shown

-- ledger_pieces --
SELECT 'table', c.oid::bigint, n.nspname, c.relname, NULL, c.oid::pg_catalog.regclass::text,
       pg_catalog.pg_get_userbyid(c.relowner),
       pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role(n.nspowner, 'USAGE'),
       pg_catalog.pg_total_relation_size(c.oid), NULL
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(ledger)s AND c.relkind = 'r' AND c.relname = ANY (%(tables)s)
UNION ALL
SELECT 'routine', p.oid::bigint, n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid),
       p.oid::pg_catalog.regprocedure::text, pg_catalog.pg_get_userbyid(p.proowner),
       pg_catalog.pg_has_role(p.proowner, 'USAGE') OR pg_catalog.pg_has_role(n.nspowner, 'USAGE'), NULL, NULL
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %(ledger)s AND p.proname = ANY (%(routines)s)
ORDER BY 1 DESC, 6

-- count --
SELECT count(*), count(*) FILTER (WHERE v.chunk = 0) FROM {relation} v

-- own --
-- The objects that go. What PostgreSQL itself drops along with one (indexes, types, an identity's sequence) belongs to it.
own (class, oid) AS (
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid, r.oid FROM unnest(%(relations)s::oid[]) AS r (oid)
    UNION
    SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, r.oid FROM unnest(%(routines)s::oid[]) AS r (oid)
    UNION
    SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass::oid, r.oid FROM unnest(%(triggers)s::oid[]) AS r (oid)
    UNION
    SELECT d.classid, d.objid
    FROM pg_catalog.pg_depend d
    JOIN own o ON o.class = d.refclassid AND o.oid = d.refobjid
    WHERE d.deptype IN ('a', 'i', 'P', 'S'))

-- in_the_way --
-- what of others depends on objects that go, in words; a trigger of a team's own on one would be lost in silence
WITH RECURSIVE {own}
SELECT DISTINCT pg_catalog.concat(i.type, ' ', i.identity)
FROM (SELECT CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_catalog.pg_class'::pg_catalog.regclass::oid END,
             coalesce(r.ev_class, d.objid), CASE WHEN r.oid IS NULL THEN d.objsubid ELSE 0 END
      FROM pg_catalog.pg_depend d
      JOIN own o ON o.class = d.refclassid AND o.oid = d.refobjid
      LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid
      WHERE d.deptype = 'n' AND (d.classid, d.objid) NOT IN (SELECT class, oid FROM own)
        -- a foreign key has one more for each partition
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
                        WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = d.objid
                          AND k.conparentid <> 0)
      UNION
      SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass::oid, t.oid, 0
      FROM pg_catalog.pg_trigger t
      WHERE t.tgrelid = ANY (%(relations)s::oid[]) AND NOT t.tgisinternal AND t.tgparentid = 0
        AND t.tgfoid <> ALL (%(routines)s::oid[])) AS others (class, oid, part)
CROSS JOIN LATERAL pg_catalog.pg_identify_object(others.class, others.oid, others.part) AS i
ORDER BY 1

-- goes_along --
-- what of a team's own cannot be there without the table that it is on
SELECT pg_catalog.format('policy %%I on %%s', p.polname, p.polrelid::pg_catalog.regclass)
FROM pg_catalog.pg_policy p
WHERE p.polrelid = ANY (%(relations)s::oid[]) AND p.polname <> 'vecmig_as_source'
UNION ALL
SELECT pg_catalog.format('%%s in publication %%I', r.prrelid::pg_catalog.regclass, b.pubname)
FROM pg_catalog.pg_publication_rel r
JOIN pg_catalog.pg_publication b ON b.oid = r.prpubid
WHERE r.prrelid = ANY (%(relations)s::oid[])
ORDER BY 1

-- mentions --
-- the functions in whose text a name stands that goes: nothing says whether they use it, and no dependency is known of them
SELECT p.oid::pg_catalog.regprocedure::text
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE l.lanname NOT IN ('c', 'internal') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND p.oid <> ALL (%(routines)s::oid[])
  AND EXISTS (SELECT FROM unnest(%(names)s::text[]) AS w (name)
              WHERE p.prosrc ~ concat('\m', pg_catalog.regexp_replace(w.name, '(\W)', '\\\1', 'g'), '\M'))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1

-- remains --
-- what else lies in a schema, in words
WITH RECURSIVE {own}
SELECT DISTINCT pg_catalog.concat(i.type, ' ', i.identity)
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_namespace n ON n.oid = d.refobjid
CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) AS i
WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND n.nspname = %(name)s AND d.deptype = 'n'
  AND (d.classid, d.objid) NOT IN (SELECT class, oid FROM own)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                  WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
ORDER BY 1

-- schema --
SELECT pg_catalog.pg_get_userbyid(n.nspowner), pg_catalog.pg_has_role(n.nspowner, 'USAGE'),
       pg_catalog.obj_description(n.oid, 'pg_namespace')
FROM pg_catalog.pg_namespace n
WHERE n.nspname = %(name)s

-- made_schemas --
SELECT n.nspname
FROM pg_catalog.pg_namespace n
WHERE pg_catalog.obj_description(n.oid, 'pg_namespace') = %(comment)s
ORDER BY 1

-- drop_view --
DROP VIEW {view}

-- drop_routine --
DROP ROUTINE {routine}({arguments})

-- drop_tables --
DROP TABLE {tables}

-- drop_schema --
DROP SCHEMA {name}

-- tags --
SELECT tag FROM {schema}.tag WHERE collection = %(collection)s ORDER BY created_at, tag

-- revisions --
SELECT id FROM {schema}.revision WHERE collection = %(collection)s

-- keyed --
-- the ledger's tables that have rows of a collection, or of a revision; what refers to others comes first
SELECT c.relname, a.attname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped AND (
         a.attname = 'collection'
         OR a.attname = 'revision' AND NOT EXISTS (
             SELECT FROM pg_catalog.pg_attribute o
             WHERE o.attrelid = c.oid AND o.attname = 'collection' AND NOT o.attisdropped))
WHERE n.nspname = %(ledger)s AND c.relkind = 'r' AND c.relname = ANY (%(tables)s) AND c.relname <> 'event'
ORDER BY array_position(ARRAY['revision', 'route', 'tag']::name[], c.relname) NULLS FIRST, c.relname

-- forget --
DELETE FROM {table} WHERE {column} = ANY (%(values)s)

-- hold_collections --
LOCK TABLE {schema}.collection IN ACCESS EXCLUSIVE MODE

-- known --
SELECT name FROM {schema}.collection ORDER BY name

-- uninstalled --
SELECT max(e.at) FROM {schema}.event e WHERE e.collection = %(collection)s AND e.kind = 'uninstall'

-- events --
SELECT count(*) FROM {schema}.event
