-- vecmig's own tables: which rights are vecmig's doing, so that they follow the source when it takes them away.

ALTER TABLE {schema}.collection
    -- the roles (NULL: PUBLIC) that were granted SELECT because they read the source: {{"vectors": [...], "live": [...]}}
    ADD COLUMN mirrored jsonb,
    -- the live view that live_grants were seen on
    ADD COLUMN live_view text;
