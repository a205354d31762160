-- vecmig's own tables, version 18: what backfills have ordered through a provider's Batch API and not collected yet.
CREATE TABLE {schema}.batch_order (
    -- in the metadata of the batch, too, by which a run finds it that another one could not write down any more
    id         uuid PRIMARY KEY,
    collection text NOT NULL,
    tag        text NOT NULL,
    revision   text NOT NULL,
    -- the provider's address, without what may be a key
    server     text NOT NULL,
    -- the provider's ids; NULL as long as it has given none
    file       text,
    batch      text,
    -- the records that were read for it: those behind one key, up to another; NULL for the beginning of the source
    after_key  jsonb,
    upto_key   jsonb NOT NULL,
    -- the digests of its texts, 16 bytes each
    digests    bytea NOT NULL,
    texts      int NOT NULL,
    -- whether records of it have chunks whose vectors were there already
    shared     boolean NOT NULL,
    -- what was entered as spent for it
    tokens     bigint NOT NULL,
    usd        numeric NOT NULL,
    ordered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ordered_by text NOT NULL DEFAULT session_user
);
CREATE INDEX batch_order_collection_tag_idx ON {schema}.batch_order (collection, tag, ordered_at);
