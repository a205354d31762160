-- vecmig's own tables, version 4: where a collection's vectors lie, and who may read its live view.

ALTER TABLE {schema}.collection
    -- NULL: beside the source, as earlier versions had it; empty: in vecmig's own schema, whatever that is called
    ADD COLUMN vectors_schema text,
    -- [role or NULL for PUBLIC, privilege, whether it may be passed on, column or NULL], as they were seen last
    ADD COLUMN live_grants jsonb;
