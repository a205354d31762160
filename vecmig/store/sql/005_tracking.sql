-- vecmig's own tables, version 5: what change tracking could not note.

-- One row for each transaction with changes that the outbox does not name, and why: only a comparison of all records with
-- their vectors finds these. Nothing is unique here, so that no writer ever waits for another one.
CREATE TABLE {schema}.full_pass (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection text NOT NULL,
    reason     text NOT NULL,
    noted_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- the tags that were compared since
    passed     text[] NOT NULL DEFAULT '{{}}'
);
CREATE INDEX ON {schema}.full_pass (collection);
