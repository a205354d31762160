-- vecmig's own tables, version 11: what providers take in one request, as their refusals have shown.

CREATE TABLE {schema}.learned_limit (
    -- the provider, with the server's address without what may be a key, and its model
    provider   text NOT NULL,
    model      text NOT NULL,
    -- the most in one request; NULL where nothing is known
    texts      int CHECK (texts >= 1),
    tokens     bigint CHECK (tokens >= 1),
    learned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (provider, model)
);
