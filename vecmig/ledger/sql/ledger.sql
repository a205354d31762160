-- The ledger: revisions, tags, routes, events.

-- revisions --
SELECT id, collection, old_tag, new_tag, phase, checksum, withdrawn_at, started_at, live_at
FROM {schema}.revision
ORDER BY started_at, id

-- start_revision --
INSERT INTO {schema}.revision AS revision (id, collection, old_tag, new_tag, phase, checksum)
VALUES (%(id)s, %(collection)s, %(old_tag)s, %(new_tag)s, 'expanded', %(checksum)s)
ON CONFLICT (id) DO UPDATE
-- a revision that was withdrawn may have been edited since; what was live then was the tag that it led to then
SET collection = excluded.collection,
    old_tag = excluded.old_tag,
    new_tag = excluded.new_tag,
    phase = CASE WHEN revision.withdrawn_at IS NULL THEN revision.phase ELSE 'expanded' END,
    withdrawn_at = NULL,
    live_at = CASE WHEN (revision.collection, revision.new_tag) IS NOT DISTINCT FROM
                        (excluded.collection, excluded.new_tag) THEN revision.live_at END,
    checksum = excluded.checksum,
    updated_at = now()

-- set_phase --
UPDATE {schema}.revision
SET phase = %(phase)s,
    updated_at = now()
WHERE id = %(id)s AND phase = ANY (%(before)s)

-- go_live --
UPDATE {schema}.revision
SET phase = 'live', checksum = %(checksum)s, live_at = now(), updated_at = now()
WHERE id = %(id)s AND phase <> 'retired' AND withdrawn_at IS NULL

-- step_back --
UPDATE {schema}.revision
SET phase = CASE WHEN phase = 'live' THEN 'indexed' ELSE phase END, updated_at = now()
WHERE id = %(id)s AND phase <> 'retired'

-- withdraw_revision --
UPDATE {schema}.revision
SET phase = CASE WHEN phase = 'live' THEN 'indexed' ELSE phase END, withdrawn_at = now(), updated_at = now()
WHERE id = %(id)s AND phase <> 'retired' AND withdrawn_at IS NULL

-- stamp_revision --
INSERT INTO {schema}.revision AS revision (id, collection, old_tag, new_tag, phase, checksum, live_at)
VALUES (%(id)s, %(collection)s, %(old_tag)s, %(new_tag)s, 'live', %(checksum)s, now())
ON CONFLICT (id) DO UPDATE
SET collection = excluded.collection,
    old_tag = excluded.old_tag,
    new_tag = excluded.new_tag,
    -- the vectors of its old tag do not come back
    phase = CASE WHEN revision.phase = 'retired' AND revision.old_tag = excluded.old_tag THEN 'retired' ELSE 'live' END,
    withdrawn_at = NULL,
    live_at = coalesce(revision.live_at, now()),
    checksum = excluded.checksum,
    updated_at = now()

-- unstamp_revision --
DELETE FROM {schema}.revision WHERE id = %(id)s

-- forget_statements --
DELETE FROM {schema}.statement WHERE revision = %(revision)s

-- forget_statement --
DELETE FROM {schema}.statement WHERE revision = %(revision)s AND step = %(step)s AND ordinal = %(ordinal)s

-- statement_done --
SELECT sha256 FROM {schema}.statement WHERE revision = %(revision)s AND step = %(step)s AND ordinal = %(ordinal)s

-- record_statement --
INSERT INTO {schema}.statement (revision, step, ordinal, sha256)
VALUES (%(revision)s, %(step)s, %(ordinal)s, %(sha256)s)

-- record_collection --
INSERT INTO {schema}.collection AS c (name, source_schema, source_table, key_columns, key_types, text_expression,
                                      where_expression, storage, metric, change_tracking, live_columns,
                                      vectors_schema)
VALUES (%(name)s, %(source_schema)s, %(source_table)s, %(key_columns)s, %(key_types)s, %(text)s,
        %(where)s, %(storage)s, %(metric)s, %(change_tracking)s, %(live_columns)s, %(vectors_schema)s)
ON CONFLICT (name) DO UPDATE
SET source_schema = excluded.source_schema,
    source_table = excluded.source_table,
    key_types = excluded.key_types,
    text_expression = excluded.text_expression,
    where_expression = excluded.where_expression,
    change_tracking = excluded.change_tracking,
    live_columns = excluded.live_columns,
    -- what a view of an earlier vecmig showed counts until something is said
    kept_columns = CASE WHEN excluded.live_columns IS NULL THEN c.kept_columns END

-- record_place --
UPDATE {schema}.collection SET vectors_schema = %(vectors_schema)s WHERE name = %(name)s

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
       j.row ->> 'vectors_schema'
FROM {schema}.collection c,
     LATERAL to_jsonb(c) AS j (row),
     LATERAL (SELECT coalesce(j.row ->> 'identity_of' = {identity}, false)) AS own (here)

-- identity --
-- of what oids are: the server's own number, the database, and the ledger's table, which a restore makes anew
pg_catalog.concat_ws('/', (SELECT s.system_identifier FROM pg_catalog.pg_control_system() s),
                     (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()),
                     c.tableoid)

-- record_route --
INSERT INTO {schema}.route (collection) VALUES (%(collection)s) ON CONFLICT DO NOTHING

-- routes --
-- by way of jsonb, because a reader may come before the upgrade that adds the last columns
SELECT r.collection, r.live, r.standby, r.candidate, r.version,
       j.route ->> 'shadow_tag',
       r.shadow_share::float8,
       coalesce((j.route ->> 'keep_queries')::boolean, false),
       coalesce((j.route ->> 'ramp_share')::float8, 0)
FROM {schema}.route r, LATERAL to_jsonb(r) AS j(route)

-- held_route --
-- a real by way of its text, as routes has it
SELECT collection, live, standby, candidate, version, shadow_tag, shadow_share::float8, keep_queries,
       ramp_share::text::float8
FROM {schema}.route
WHERE collection = %(collection)s
FOR UPDATE

-- stamp --
-- a digest of all that a reader builds on
SELECT pg_catalog.md5(pg_catalog.concat_ws(' ', pg_catalog.to_jsonb(r), pg_catalog.to_jsonb(c), (
    SELECT pg_catalog.string_agg(
        pg_catalog.concat_ws(' ', t.tag, t.dims, t.recipe, t.fingerprint, t.state, t.created_at), ' ' ORDER BY t.tag)
    FROM {schema}.tag t
    WHERE t.collection = r.collection)))
FROM {schema}.route r
JOIN {schema}.collection c ON c.name = r.collection
WHERE r.collection = %(collection)s

-- was_live --
SELECT EXISTS (SELECT FROM {schema}.tag
               WHERE collection = %(collection)s AND tag = %(tag)s AND state IN ('live', 'standby'))
    OR EXISTS (SELECT FROM {schema}.revision
               WHERE collection = %(collection)s AND new_tag = %(tag)s AND live_at IS NOT NULL)
    OR EXISTS (SELECT FROM {schema}.event
               WHERE collection = %(collection)s AND tag = %(tag)s AND kind = 'cutover'
                 -- an uninstalled collection begins anew
                 AND id > coalesce((SELECT max(id) FROM {schema}.event
                                    WHERE collection = %(collection)s AND kind = 'uninstall'), 0))

-- set_candidate --
-- another candidate serves nobody, and is compared with nothing, before somebody says so
UPDATE {schema}.route
SET candidate = %(candidate)s,
    ramp_share = CASE WHEN candidate = %(candidate)s::text THEN ramp_share ELSE 0 END,
    shadow_tag = CASE WHEN candidate = %(candidate)s::text OR shadow_tag IS DISTINCT FROM candidate THEN shadow_tag END,
    version = version + (ramp_share > 0 OR shadow_tag IS NOT NULL)::int
WHERE collection = %(collection)s

-- set_reads --
UPDATE {schema}.route
SET shadow_tag = %(shadow_tag)s,
    shadow_share = %(shadow_share)s,
    keep_queries = %(keep_queries)s,
    ramp_share = %(ramp_share)s,
    version = version + 1
WHERE collection = %(collection)s

-- renew_route --
-- where no tag was ever live, nothing was read either
UPDATE {schema}.route SET version = version + 1 WHERE collection = %(collection)s AND version > 0

-- rejected --
SELECT collection, tag, key, reason, at
FROM {schema}.rejected
WHERE %(collection)s::text IS NULL OR collection = %(collection)s
ORDER BY collection, tag, at, key

-- retry_rejected --
DELETE FROM {schema}.rejected WHERE %(collection)s::text IS NULL OR collection = %(collection)s

-- forget_rejected --
DELETE FROM {schema}.rejected WHERE collection = %(collection)s AND tag = %(tag)s

-- move_route --
-- A ramp ends with the switch. A comparison goes on with the parts exchanged, if the tag that was live is kept complete.
UPDATE {schema}.route
SET live = %(live)s,
    standby = %(standby)s,
    candidate = NULL,
    ramp_share = 0,
    shadow_tag = CASE
        WHEN shadow_tag = %(live)s::text AND live = %(standby)s::text THEN live
        WHEN shadow_tag = %(standby)s::text THEN shadow_tag
    END,
    version = version + 1,
    changed_at = now()
WHERE collection = %(collection)s AND live IS NOT DISTINCT FROM %(before)s
RETURNING version

-- tags --
-- before version 12 every tag had a partition
SELECT collection, tag, dims, recipe, fingerprint, coalesce(to_jsonb(t) ->> 'home', 'partition'), state, canary
FROM {schema}.tag t
ORDER BY collection, created_at, tag

-- home_of --
SELECT coalesce(to_jsonb(t) ->> 'home', 'partition')
FROM {schema}.tag t
WHERE collection = %(collection)s AND tag = %(tag)s

-- record_tag --
INSERT INTO {schema}.tag (collection, tag, dims, recipe, fingerprint)
VALUES (%(collection)s, %(tag)s, %(dims)s, %(recipe)s, %(fingerprint)s)
ON CONFLICT (collection, tag) DO UPDATE
SET recipe = excluded.recipe,
    -- what is known of the vectors that were retired is not known of those to come
    created_at = CASE WHEN {schema}.tag.state = 'retired' THEN now() ELSE {schema}.tag.created_at END,
    state = CASE WHEN {schema}.tag.state = 'retired' THEN 'building' ELSE {schema}.tag.state END

-- set_tag_states --
UPDATE {schema}.tag
SET state = CASE
        WHEN tag = %(live)s THEN 'live'
        WHEN tag = %(standby)s THEN 'standby'
        WHEN state IN ('live', 'standby') THEN 'ready'
        ELSE state
    END
WHERE collection = %(collection)s

-- set_tag_state --
UPDATE {schema}.tag SET state = %(state)s WHERE collection = %(collection)s AND tag = %(tag)s

-- refresh_recipe --
UPDATE {schema}.tag
SET recipe = %(recipe)s
WHERE collection = %(collection)s AND tag = %(tag)s AND fingerprint = %(fingerprint)s AND recipe <> %(recipe)s

-- last_rate --
SELECT (data ->> 'written')::float / (data ->> 'seconds')::float
FROM {schema}.event
WHERE kind = 'backfill' AND collection = %(collection)s AND tag = %(tag)s
  AND (data ->> 'written')::int > 0 AND (data ->> 'seconds')::float > 0
ORDER BY id DESC
LIMIT 1

-- forget_tag --
DELETE FROM {schema}.tag WHERE collection = %(collection)s AND tag = %(tag)s

-- set_canary --
UPDATE {schema}.tag SET canary = %(canary)s WHERE collection = %(collection)s AND tag = %(tag)s AND canary IS NULL

-- record_event --
INSERT INTO {schema}.event (kind, revision, collection, tag, host, git_commit, version, data)
VALUES (%(kind)s, %(revision)s, %(collection)s, %(tag)s, %(host)s, %(git_commit)s, %(version)s, %(data)s)

-- announce_route --
SELECT pg_catalog.pg_notify(
    %(channel)s,
    json_build_object('collection', collection, 'live', live, 'version', version)::text)
FROM {schema}.route
WHERE collection = %(collection)s
