-- The live views that step aside for a migration of their source; the work is done by functions of the ledger's schema,
-- so that a migration can call them over its own connection.

-- detached --
SELECT collection, detached_at, detached_by FROM {schema}.detached

-- detach --
SELECT {schema}.view_detach(%(collection)s, %(host)s, %(git_commit)s, %(version)s)

-- forget --
DELETE FROM {schema}.detached WHERE collection = %(collection)s RETURNING view IS NOT NULL, belongings

-- belongings --
SELECT {schema}.belongings(pg_catalog.to_regclass({view}))

-- drop_view --
CALL {schema}.drop_view(pg_catalog.to_regclass({view}))

-- give_back --
CALL {schema}.give_back(%(lines)s)
