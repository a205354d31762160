-- vecmig's own tables, version 2: what operators tell a run, what runs are doing, and what they have cost.

CREATE TABLE {schema}.control (
    collection  text PRIMARY KEY,
    paused      boolean NOT NULL DEFAULT false,
    reason      text,
    -- NULL: as the recipe says, and as fast as it goes
    concurrency int CHECK (concurrency >= 1),
    max_rate    double precision CHECK (max_rate > 0),
    -- since when and by whom it is paused
    paused_at   timestamptz,
    paused_by   text
);

-- one row for each process at work; it goes with the process, or grows old where that was killed
CREATE TABLE {schema}.run (
    id          uuid PRIMARY KEY,
    collection  text NOT NULL,
    tag         text NOT NULL,
    what        text NOT NULL CHECK (what IN ('backfill', 'sync')),
    host        text NOT NULL,
    pid         int NOT NULL,
    state       text NOT NULL CHECK (state IN ('running', 'paused', 'throttled', 'waiting')),
    reason      text,
    done        bigint NOT NULL,
    total       bigint NOT NULL,
    rejected    bigint NOT NULL,
    -- records a second, and requests that may be in flight
    rate        double precision NOT NULL,
    concurrency int NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- what requests have cost: reserved before each is sent, corrected when its answer tells the tokens
CREATE TABLE {schema}.spend (
    revision text NOT NULL,
    what     text NOT NULL CHECK (what IN ('backfill', 'sync')),
    tokens   bigint NOT NULL DEFAULT 0,
    usd      numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (revision, what)
);
