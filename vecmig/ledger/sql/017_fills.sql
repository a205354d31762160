-- vecmig's own tables, version 17: vectors that vecmig has put into a column of the source, and whose records have other
-- keys since. Their stamps went with the keys that they had; the next run gives them new ones.
CREATE TABLE {schema}.fill (
    collection  text NOT NULL,
    tag         text NOT NULL,
    -- the one that the record has now
    key         jsonb NOT NULL,
    -- md5 of the vector as pgvector sends it
    vector      uuid NOT NULL,
    -- of the text that it was made from
    source_hash uuid NOT NULL
);
ALTER TABLE {schema}.fill REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX fill_key ON {schema}.fill (collection, (md5(key::text)::uuid), tag, vector);
