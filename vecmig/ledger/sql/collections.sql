-- Which relations the sources of the collections are, by the numbers that PostgreSQL's catalogs have for them.

-- record_identity --
-- looked up here, because --sql writes it for a database that may be another one
UPDATE {schema}.collection c
SET source_oid = pg_catalog.to_regclass(%(source)s),
    key_numbers = (SELECT pg_catalog.array_agg(a.attnum ORDER BY k.n)
                   FROM pg_catalog.unnest(%(key_names)s::text[]) WITH ORDINALITY AS k (name, n)
                   JOIN pg_catalog.pg_attribute a
                       ON a.attrelid = pg_catalog.to_regclass(%(source)s) AND a.attname = k.name AND NOT a.attisdropped),
    key_names = %(key_names)s,
    column_numbers = (SELECT pg_catalog.jsonb_object_agg(a.attname, a.attnum)
                      FROM pg_catalog.pg_attribute a
                      WHERE a.attrelid = pg_catalog.to_regclass(%(source)s) AND a.attnum > 0 AND NOT a.attisdropped),
    home_schema = %(home)s::text,
    home_oid = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = %(home)s::text),
    identity_of = {identity}
WHERE c.name = %(name)s

-- collections --
-- by way of jsonb, as routes; what identifies the source counts only in the database that it was written down in
SELECT c.name, c.source_schema, c.source_table, coalesce(nullif(j.row -> 'key_names', 'null'), to_jsonb(c.key_columns)),
       c.key_columns, c.key_types, c.text_expression, c.where_expression, c.storage, c.metric, c.change_tracking,
       nullif(j.row -> 'live_columns', 'null'),
       CASE WHEN own.here THEN (j.row ->> 'source_oid')::bigint END,
       CASE WHEN own.here THEN nullif(j.row -> 'key_numbers', 'null') END,
       CASE WHEN own.here THEN nullif(j.row -> 'column_numbers', 'null') END,
       coalesce(CASE WHEN own.here THEN (SELECT n.nspname FROM pg_catalog.pg_namespace n
                                         WHERE n.oid = (j.row ->> 'home_oid')::oid) END,
                j.row ->> 'home_schema', c.source_schema),
       coalesce(j.row ->> 'home_schema', c.source_schema),
       j.row ->> 'vectors_schema',
       (SELECT jsonb_agg(jsonb_build_array(t.tag, to_jsonb(t) -> 'adopted', to_jsonb(t) -> 'home', t.state)
                         ORDER BY t.created_at, t.tag)
        FROM {schema}.tag t
        WHERE t.collection = c.name AND nullif(to_jsonb(t) -> 'adopted', 'null') IS NOT NULL),
       (SELECT jsonb_agg(jsonb_build_array(t.tag, b.tag) ORDER BY t.created_at, t.tag)
        FROM {schema}.tag t
        JOIN {schema}.tag b ON b.collection = t.collection AND b.tag = t.recipe ->> 'derive' AND b.state <> 'retired'
        WHERE t.collection = c.name),
       (SELECT jsonb_agg(jsonb_build_array(t.tag, coalesce(to_jsonb(t) -> 'index', '{{}}')) ORDER BY t.tag)
        FROM {schema}.tag t
        WHERE t.collection = c.name AND t.state <> 'retired')
FROM {schema}.collection c,
     LATERAL to_jsonb(c) AS j (row),
     LATERAL (SELECT coalesce(j.row ->> 'identity_of' = {identity}, false)) AS own (here)

-- identity --
-- of what oids are: the server's own number, the database, and the ledger's table, which a restore makes anew
pg_catalog.concat_ws('/', (SELECT s.system_identifier FROM pg_catalog.pg_control_system() s),
                     (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()),
                     c.tableoid)
