-- What an audit asks of a database. Everything here reads only.
-- {rows} is a sub-select over the source with columns k0, k1, …, belongs and txt; {stamps} is the relation of one tag.

-- faults --
-- One pass over the source and one over a tag's vectors: which records do not fit, how many, and the first keys; apart
-- where the outbox knows of the change and it only waits to be embedded.
SELECT f.kind, f.known, count(*), min(f.changed_at), array_agg(f.key ORDER BY f.n) FILTER (WHERE f.n <= 3)
FROM (SELECT f.kind, c.key IS NOT NULL AS known, c.changed_at, {key_json}::text AS key,
             row_number() OVER (PARTITION BY f.kind, c.key IS NOT NULL ORDER BY {f_keys}) AS n
      FROM (SELECT {found_keys}, s.hash,
                   CASE WHEN s.belongs IS NULL THEN 'orphaned'
                        -- a row that where leaves out keeps its vectors: no search shows them
                        WHEN NOT s.belongs THEN NULL
                        WHEN NOT s.eligible THEN CASE WHEN v.there THEN 'emptied' END
                        WHEN v.there IS NULL THEN 'missing'
                        WHEN NOT v.whole THEN 'incomplete'
                        WHEN v.source_hash <> s.hash THEN 'stale'
                   END AS kind
            FROM (SELECT {keys}, s.belongs, coalesce({eligible}, false) AS eligible, {hash} AS hash
                  FROM {rows} s OFFSET 0) s
            FULL JOIN (SELECT {v_keys}, true AS there, coalesce({all_chunks}, false) AS whole,
                              (min(v.source_hash::text) FILTER (WHERE v.chunk = 0))::uuid AS source_hash
                       FROM {stamps} v
                       GROUP BY {v_keys}) v ON {same}) f
      LEFT JOIN {schema}.rejected r
          ON r.collection = %(collection)s AND r.tag = %(tag)s AND {rejected_key} AND r.source_hash = f.hash
      LEFT JOIN {schema}.change c ON c.collection = %(collection)s AND {changed_key}
      -- a rejected record has its reason: vecmig rejected
      WHERE f.kind IS NOT NULL AND r.key IS NULL) f
GROUP BY f.kind, f.known
ORDER BY f.kind, f.known

-- one_chunk --
bool_or(v.chunk = 0)

-- all_chunks --
max(v.chunks) FILTER (WHERE v.chunk = 0) = 1
OR (max(v.chunks) FILTER (WHERE v.chunk = 0) <= count(*) AND min(v.source_hash::text) = max(v.source_hash::text))

-- clock --
SELECT pg_catalog.now(),
       (SELECT s.stats_reset FROM pg_catalog.pg_stat_database s WHERE s.datname = pg_catalog.current_database())

-- names --
SELECT pg_catalog.format('%%I.%%I', %(schema)s::text, %(table)s::text),
       pg_catalog.format('%%I.%%I', %(vectors)s::text, %(collection)s || '_vectors'),
       pg_catalog.format('%%I.%%I', %(home)s::text, %(collection)s || '_live')

-- partitions --
-- of one collection: what is part of the vectors table, and what is called as if it were
SELECT c.relname, pg_catalog.format('%%I.%%I', n.nspname, c.relname),
       CASE WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'pending' ELSE 'attached' END,
       coalesce(pg_catalog.pg_get_expr(c.relpartbound, c.oid), ''),
       pg_catalog.pg_stat_get_tuples_updated(c.oid), pg_catalog.pg_total_relation_size(c.oid), c.relrowsecurity
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_inherits i
    ON i.inhrelid = c.oid AND i.inhparent = pg_catalog.to_regclass(%(vectors)s)
WHERE c.relkind IN ('r', 'p', 'f')
  AND (i.inhrelid IS NOT NULL
       OR (n.nspname = %(schema)s AND pg_catalog.starts_with(c.relname, %(prefix)s)
           AND pg_catalog.substr(c.relname, pg_catalog.length(%(prefix)s) + 1) ~ '^[0-9a-f]{{8}}$'))
ORDER BY c.relname

-- tags_in --
SELECT v.tag, count(*) FROM {stamps} v GROUP BY v.tag ORDER BY 2 DESC, 1 LIMIT 5

-- vector_columns --
-- the tag column is the one that is called like the vectors' own with _tag behind it
SELECT n.nspname, c.relname, a.attname, pg_catalog.format('%%I.%%I', n.nspname, c.relname),
       pg_catalog.quote_ident(a.attname), pg_catalog.format_type(a.atttypid, a.atttypmod), t.attname,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AND NOT pg_catalog.row_security_active(c.oid)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
JOIN pg_catalog.pg_namespace yn ON yn.oid = y.typnamespace
LEFT JOIN pg_catalog.pg_attribute t
    ON t.attrelid = c.oid AND t.attname = a.attname || '_tag' AND NOT t.attisdropped
   AND t.atttypid IN ('text'::regtype, 'varchar'::regtype)
WHERE yn.nspname = %(pgvector)s AND y.typname IN ('vector', 'halfvec', 'sparsevec')
  AND NOT a.attisdropped AND a.attnum > 0 AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname !~ '^pg_'
  -- the vectors tables, of other ledgers too
  AND pg_catalog.pg_get_partkeydef(c.oid) IS DISTINCT FROM 'LIST (tag)'
ORDER BY n.nspname, c.relname, a.attnum

-- count_untagged --
SELECT count(s.{column}), count(s.{column}), '{{}}'::text[], 0::bigint FROM {relation} s

-- count_tagged --
SELECT count(s.{column}),
       count(s.{column}) FILTER (WHERE s.{tag} IS NULL OR s.{tag} = ''),
       (array_agg(DISTINCT s.{tag}::text) FILTER (WHERE s.{column} IS NOT NULL AND s.{tag} <> ''
                                                    AND s.{tag} <> ALL (%(known)s::text[])))[1:3],
       count(s.{column}) FILTER (WHERE s.{tag} <> '' AND s.{tag} <> ALL (%(known)s::text[]))
FROM {relation} s

-- indexes --
-- all that pgvector keeps in this database; one that is being built is invalid until it is done
SELECT n.nspname, c.relname, i.relname, pg_catalog.format('%I.%I', n.nspname, i.relname), m.amname, x.indisvalid AND x.indisready, o.opcname,
       pg_catalog.pg_get_indexdef(x.indexrelid), coalesce(s.idx_scan, 0), pg_catalog.pg_relation_size(i.oid)
FROM pg_catalog.pg_index x
JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_am m ON m.oid = i.relam
JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_opclass o ON o.oid = x.indclass[0]
LEFT JOIN pg_catalog.pg_stat_all_indexes s ON s.indexrelid = x.indexrelid
WHERE m.amname IN ('hnsw', 'ivfflat') AND c.relkind IN ('r', 'm')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p
                  WHERE p.datname = pg_catalog.current_database() AND x.indexrelid = p.index_relid)
  -- of other roles' builds only the lock shows
  AND (x.indisvalid OR NOT EXISTS (
      SELECT FROM pg_catalog.pg_locks l
      WHERE l.relation = c.oid AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted
        AND l.database = (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database())))
ORDER BY n.nspname, c.relname, i.relname

-- privileges --
-- who was granted what on relations of one collection or columns of them, beside their owners and those who migrate; NULL is PUBLIC
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname), pg_catalog.quote_ident(r.rolname),
       array_agg(DISTINCT a.privilege_type ORDER BY a.privilege_type),
       pg_catalog.has_table_privilege(coalesce(r.rolname, 'public'), pg_catalog.to_regclass(%(source)s), 'SELECT')
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT g.grantee, g.privilege_type FROM pg_catalog.aclexplode(c.relacl) g
    UNION ALL
    SELECT g.grantee, g.privilege_type
    FROM pg_catalog.pg_attribute t, pg_catalog.aclexplode(t.attacl) g
    WHERE t.attrelid = c.oid AND NOT t.attisdropped) a
LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
WHERE c.oid = ANY (SELECT pg_catalog.to_regclass(x) FROM unnest(%(relations)s::text[]) x)
  AND a.grantee <> c.relowner AND (a.grantee = 0 OR r.rolname <> ALL (%(migrators)s::text[]))
  AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
GROUP BY n.nspname, c.relname, r.rolname
ORDER BY 1, 2 NULLS FIRST

-- shut_out --
-- roles that may read the whole source and not a relation of the collection; NULL is PUBLIC
SELECT DISTINCT pg_catalog.quote_ident(r.rolname)
FROM pg_catalog.pg_class c
CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
WHERE c.oid = pg_catalog.to_regclass(%(source)s) AND a.privilege_type = 'SELECT'
  AND NOT pg_catalog.has_table_privilege(coalesce(r.rolname, 'public'), pg_catalog.to_regclass(%(relation)s), 'SELECT')
ORDER BY 1 NULLS FIRST

-- migrators --
SELECT DISTINCT e.role FROM {schema}.event e UNION SELECT current_user::text

-- policies --
-- permissive policies add up: one more shows what the source's own policy hides
SELECT c.relrowsecurity,
       EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'vecmig_as_source'),
       ARRAY(SELECT p.polname::text FROM pg_catalog.pg_policy p
             WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('r', '*') AND p.polname <> 'vecmig_as_source'
             ORDER BY 1)
FROM pg_catalog.pg_class c
WHERE c.oid = pg_catalog.to_regclass(%(vectors)s)

-- rights_of_owner --
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c
               WHERE c.oid = pg_catalog.to_regclass(%(live)s)
                 AND NOT coalesce(c.reloptions, '{{}}') && ARRAY['security_invoker=true', 'security_invoker=on',
                                                                'security_invoker=1', 'security_invoker=yes']),
       ARRAY(SELECT pg_catalog.format('%%I.%%I(%%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid))
             FROM pg_catalog.pg_proc p
             JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname = %(schema)s AND p.proname = %(search)s AND p.prosecdef)

-- triggers --
SELECT w.name,
       CASE WHEN t.oid IS NULL THEN 'gone' WHEN t.tgenabled NOT IN ('O', 'A') THEN 'disabled' ELSE 'not vecmig''s' END
FROM unnest(%(names)s::text[]) w(name)
LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = pg_catalog.to_regclass(%(source)s) AND t.tgname = w.name
LEFT JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
WHERE t.oid IS NULL OR t.tgenabled NOT IN ('O', 'A')
   OR (p.pronamespace, p.proname) IS DISTINCT FROM (pg_catalog.to_regnamespace(pg_catalog.quote_ident(%(ledger)s)), %(function)s)
ORDER BY w.name

-- writers --
SELECT v.written_by[1], coalesce(v.written_by[2], ''), v.tag, count(*), min(v.embedded_at), max(v.embedded_at)
FROM {vectors} v
WHERE v.written_by IS NOT NULL
GROUP BY 1, 2, 3
ORDER BY 4 DESC, 1, 2, 3
LIMIT 20

-- sessions --
-- a session that is writing to the vectors and not to the source: what triggers do, they do for a write to the source
SELECT coalesce(a.usename, 'a background worker'), a.application_name, a.client_addr::text, count(DISTINCT a.pid)
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.database = (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database())
  AND l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
  AND l.relation = ANY (SELECT pg_catalog.to_regclass(x)::oid FROM unnest(%(relations)s::text[]) x)
  AND a.application_name <> 'vecmig' AND a.pid <> pg_catalog.pg_backend_pid()
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks s
                  WHERE s.pid = l.pid AND s.database = l.database AND s.mode = 'RowExclusiveLock'
                    AND s.relation = pg_catalog.to_regclass(%(source)s)::oid)
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3

-- functions --
-- by their text, and so only those that name the table; vecmig's own lie in its schema
SELECT pg_catalog.format('%%I.%%I(%%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)),
       ARRAY(SELECT DISTINCT t.tgrelid::regclass::text FROM pg_catalog.pg_trigger t
             WHERE t.tgfoid = p.oid AND NOT t.tgisinternal ORDER BY 1)
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname <> ALL (ARRAY['pg_catalog', 'information_schema', %(ledger)s]) AND p.prosrc ~* %(pattern)s
ORDER BY 1

-- statements_view --
SELECT pg_catalog.format('%%I.pg_stat_statements', n.nspname)
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'

-- statements --
SELECT r.rolname, sum(s.calls)::bigint, sum(s.rows)::bigint, min(left(s.query, 200))
FROM {view} s
JOIN pg_catalog.pg_roles r ON r.oid = s.userid
JOIN pg_catalog.pg_database d ON d.oid = s.dbid
WHERE d.datname = pg_catalog.current_database() AND s.query ~* %(pattern)s AND r.rolname <> ALL (%(migrators)s::text[])
GROUP BY r.rolname
ORDER BY r.rolname
