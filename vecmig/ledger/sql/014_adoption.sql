-- vecmig's own tables, version 14: tags that have adopted the vectors of a column.

ALTER TABLE {schema}.tag
    -- what the revision says of it: expression, where, home, fill, retire; NULL where the tag was embedded
    ADD COLUMN adopted jsonb,
    -- what the spot check found when it compared them with the recipe: at, good, of; NULL where they are only asserted
    ADD COLUMN verified jsonb;

ALTER TABLE {schema}.change
    -- whether it was the vector in the source's own column that changed, and is still to be taken over
    ADD COLUMN vector_changed boolean NOT NULL DEFAULT false,
    -- role and application of whoever changed the text last and not that vector; NULL where no tag has adopted it
    ADD COLUMN text_changed_by text[];
