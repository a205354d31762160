-- vecmig's own tables: which rights are vecmig's doing, so that they follow the source when it takes them away.

ALTER TABLE {schema}.collection
    -- whom vecmig granted SELECT because they read the source: by relation (vectors, live) lists of name and number of a
    -- role, both NULL for PUBLIC
    ADD COLUMN mirrored jsonb,
    -- the live view that live_grants were seen on
    ADD COLUMN live_view text;
