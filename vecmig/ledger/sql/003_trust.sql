-- vecmig's own tables, version 3: the evidence that a tag is as good as another.

-- one row for each run of a suite against a tag; the coverage at that moment stands beside every score
CREATE TABLE {schema}.eval (
    id                uuid PRIMARY KEY,
    at                timestamptz NOT NULL DEFAULT clock_timestamp(),
    collection        text NOT NULL,
    tag               text NOT NULL,
    suite             text NOT NULL,
    suite_fingerprint text NOT NULL,
    k                 int NOT NULL CHECK (k >= 1),
    queries           int NOT NULL,
    coverage          double precision NOT NULL CHECK (coverage BETWEEN 0 AND 1),
    eligible          bigint NOT NULL,
    records           bigint NOT NULL,
    scores            jsonb NOT NULL,
    -- the values of each query, for the paired test between two tags
    per_query         jsonb NOT NULL,
    distances         jsonb NOT NULL,
    role              text NOT NULL DEFAULT session_user,
    host              text,
    version           text NOT NULL
);
CREATE INDEX ON {schema}.eval (collection, tag, at);

-- one row for each request that also asked the other tag
CREATE TABLE {schema}.shadow (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    collection  text NOT NULL,
    live_tag    text NOT NULL,
    other_tag   text NOT NULL,
    k           int NOT NULL,
    -- shares from 0 to 1; NULL where the other tag gave no answer
    overlap     double precision,
    rbo         double precision,
    top_changed boolean,
    live_ms     double precision NOT NULL,
    other_ms    double precision,
    error       text,
    query_hash  text NOT NULL,
    -- only where somebody asked for it
    query       text
);
CREATE INDEX ON {schema}.shadow (collection, live_tag, other_tag, at);

-- how much of the traffic the candidate serves, and whether shadowed questions are kept in words
ALTER TABLE {schema}.route
    ADD COLUMN ramp_share real NOT NULL DEFAULT 0 CHECK (ramp_share BETWEEN 0 AND 1),
    ADD COLUMN shadow_tag text,
    ADD COLUMN keep_queries boolean NOT NULL DEFAULT false,
    ADD FOREIGN KEY (collection, shadow_tag) REFERENCES {schema}.tag;
