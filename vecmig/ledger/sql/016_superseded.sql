-- vecmig's own tables, version 16: vectors of the source's own that an adopted tag does without, because their records'
-- texts changed since. A comparison of the source with the tag's copies would take them for new ones.
CREATE TABLE {schema}.superseded (
    collection text NOT NULL,
    tag        text NOT NULL,
    key        jsonb NOT NULL,
    -- md5 of the vector as pgvector sends it
    vector     uuid NOT NULL
);
ALTER TABLE {schema}.superseded REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX superseded_key ON {schema}.superseded (collection, (md5(key::text)::uuid), tag);
