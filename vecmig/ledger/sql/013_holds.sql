-- vecmig's own tables, version 13: revisions on hold, and every kind of run.

ALTER TABLE {schema}.revision
    -- since when an upgrade passes it by, who decided that, and why; NULL where it is not on hold
    ADD COLUMN held_at timestamptz,
    ADD COLUMN held_by text,
    ADD COLUMN hold_reason text;

-- an index build, a gate and a cutover are runs like a backfill
ALTER TABLE {schema}.run
    DROP CONSTRAINT run_what_check,
    -- when it may be done; NULL where that is not known
    ADD COLUMN ends_at timestamptz;
