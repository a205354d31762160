-- vecmig's own tables, version 1.

CREATE TABLE {schema}.collection (
    name             text PRIMARY KEY,
    source_schema    text NOT NULL,
    source_table     text NOT NULL,
    key_columns      text[] NOT NULL,
    key_types        text[] NOT NULL,
    text_expression  text NOT NULL,
    where_expression text,
    storage          text NOT NULL CHECK (storage IN ('vector', 'halfvec')),
    metric           text NOT NULL CHECK (metric IN ('cosine', 'l2', 'ip')),
    change_tracking  text NOT NULL CHECK (change_tracking IN ('triggers', 'scan')),
    created_at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE {schema}.tag (
    collection  text NOT NULL REFERENCES {schema}.collection,
    tag         text NOT NULL CHECK (tag <> ''),
    dims        int NOT NULL,
    recipe      jsonb NOT NULL,
    fingerprint text NOT NULL,
    partition   text NOT NULL,
    state       text NOT NULL DEFAULT 'building' CHECK (state IN ('building', 'ready', 'live', 'standby', 'retired')),
    -- a few texts and the vectors they had when the tag was new: the same name may hide new weights one day
    canary      jsonb,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, tag)
);

CREATE TABLE {schema}.route (
    collection   text PRIMARY KEY REFERENCES {schema}.collection,
    live         text,
    standby      text,
    candidate    text,
    shadow_share real NOT NULL DEFAULT 0 CHECK (shadow_share BETWEEN 0 AND 1),
    version      bigint NOT NULL DEFAULT 0,
    changed_at   timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (collection, live) REFERENCES {schema}.tag,
    FOREIGN KEY (collection, standby) REFERENCES {schema}.tag,
    FOREIGN KEY (collection, candidate) REFERENCES {schema}.tag
);

CREATE TABLE {schema}.revision (
    id           text PRIMARY KEY,
    collection   text,
    old_tag      text,
    new_tag      text,
    phase        text NOT NULL CHECK (phase IN ('expanded', 'backfilled', 'indexed', 'live', 'retired')),
    checksum     text NOT NULL,
    -- set when a downgrade took it back; its vectors are kept, so going forward again is instant
    withdrawn_at timestamptz,
    started_at   timestamptz NOT NULL DEFAULT now(),
    started_by   text NOT NULL DEFAULT session_user,
    live_at      timestamptz,
    updated_at   timestamptz NOT NULL DEFAULT now()
);

-- the statements of m.execute() that a script has already run: a resumed script does not run them again
CREATE TABLE {schema}.statement (
    revision text NOT NULL,
    step     text NOT NULL,
    ordinal  int NOT NULL,
    sha256   text NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (revision, step, ordinal)
);

CREATE TABLE {schema}.event (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind       text NOT NULL,
    revision   text,
    collection text,
    tag        text,
    role       text NOT NULL DEFAULT session_user,
    host       text,
    git_commit text,
    version    text NOT NULL,
    data       jsonb NOT NULL DEFAULT '{{}}'
);
CREATE INDEX ON {schema}.event (collection, at);

CREATE FUNCTION {schema}.event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'vecmig''s event table is append-only' USING ERRCODE = 'VM010';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {schema}.event
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.event_is_append_only();

-- outbox of the sources' triggers: which records changed since all tags in use were brought up to date
CREATE TABLE {schema}.change (
    collection text NOT NULL,
    key        jsonb NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (collection, key)
);
CREATE INDEX ON {schema}.change (collection, changed_at);

-- records that cannot be embedded as they are; a changed text (another source_hash) gets another try
CREATE TABLE {schema}.rejected (
    collection  text NOT NULL,
    tag         text NOT NULL,
    key         jsonb NOT NULL,
    source_hash uuid NOT NULL,
    reason      text NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, key, tag)
);
