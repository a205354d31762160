-- vecmig's own tables: which relation and which of its columns a collection rests on, whatever they are called.

ALTER TABLE {schema}.collection
    -- the source, and the numbers of its key columns; key_columns are what the vectors table calls these
    ADD COLUMN source_oid oid,
    ADD COLUMN key_numbers smallint[],
    -- what the source called its columns when it was looked at last
    ADD COLUMN key_names text[],
    ADD COLUMN column_numbers jsonb,
    -- the schema of what applications read
    ADD COLUMN home_schema text,
    ADD COLUMN home_oid oid,
    -- server, database and ledger that the oids are of: a restored ledger has new ones
    ADD COLUMN identity_of text;
