-- vecmig's own tables, version 14: tags that have adopted the vectors of a column.

ALTER TABLE {schema}.tag
    -- what the revision says of it: expression, where, home, fill, retire; NULL where the tag was embedded
    ADD COLUMN adopted jsonb,
    -- what the spot check found when it compared them with the recipe: at, good, of; NULL where they are only asserted
    ADD COLUMN verified jsonb;

ALTER TABLE {schema}.change
    -- the transaction that changed the vector in the source's own column, or wrote the record; NULL once that was taken
    -- over, and where a later transaction changed the text alone
    ADD COLUMN vector_changed_in bigint,
    -- role and application of whoever changed the text last and not that vector; NULL where no tag has adopted it
    ADD COLUMN text_changed_by text[];
