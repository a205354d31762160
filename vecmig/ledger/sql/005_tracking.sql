-- vecmig's own tables, version 5: what change tracking could not note, and keys of any length.

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

-- A key may be as long as the source's own index takes, and longer than these did: its digest stands for it. Without a
-- primary key, a publication of all tables needs the identity. No index has changed_at, so a record that changes again
-- and again costs one row.
ALTER TABLE {schema}.rejected DROP CONSTRAINT rejected_pkey;
ALTER TABLE {schema}.rejected REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX rejected_key ON {schema}.rejected (collection, (md5(key::text)::uuid), tag);
-- The triggers that are there infer the old primary key: it goes once each of them is replaced, see ``renew_outbox``.
DROP INDEX {schema}.change_collection_changed_at_idx;
ALTER TABLE {schema}.change REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX change_key ON {schema}.change (collection, (md5(key::text)::uuid));
