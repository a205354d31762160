-- vecmig's own schema and its version.

-- find --
-- other tools have a schema_version, too
SELECT (SELECT count(*) FROM pg_catalog.pg_class
        WHERE relnamespace = n.oid AND relkind IN ('r', 'p')
          AND relname IN ('schema_version', 'route', 'revision')) = 3 AS ours,
       EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = n.oid) AS occupied
FROM pg_catalog.pg_namespace n
WHERE n.nspname = %(schema)s

-- version --
SELECT max(version) FROM {schema}.schema_version

-- lock --
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('vecmig schema ' || %(schema)s, 0))

-- create_schema --
CREATE SCHEMA {schema}

-- create --
CREATE TABLE {schema}.schema_version (
    version      int PRIMARY KEY,
    installed_at timestamptz NOT NULL DEFAULT now()
)

-- record --
INSERT INTO {schema}.schema_version (version) SELECT generate_series(%(first)s::int, %(last)s::int)

-- old_outbox --
-- whether the outbox has a primary key that limits how long a key may be, and no trigger infers it any more
SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    WHERE k.contype = 'p' AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
      AND c.oid = pg_catalog.to_regclass(%(outbox)s)
      AND k.conkey @> ARRAY(SELECT a.attnum FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'key'))
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_trigger t
        JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
        WHERE strpos(f.prosrc, 'INTO ' || %(outbox)s || ' (') > 0
          AND strpos(f.prosrc, 'ON CONFLICT (collection, key) DO UPDATE') > 0)

-- renew_outbox --
ALTER TABLE {schema}.change DROP CONSTRAINT change_pkey
