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
INSERT INTO {schema}.schema_version (version) VALUES (%(version)s)
