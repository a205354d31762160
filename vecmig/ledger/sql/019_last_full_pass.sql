-- vecmig's own tables, version 19: when each record of a collection was compared with a tag's vectors last. Whoever finds
-- it knows what the tag lacks from the outbox alone; see freshness/standing.sql.
CREATE TABLE {schema}.last_full_pass (
    collection text NOT NULL,
    tag        text NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- of what was compared: with another table, another text or other vectors under the same names, it says nothing
    subject    uuid NOT NULL,
    -- records, those without a text, and those whose vectors stay although they have no text or `where` leaves them out
    records    bigint NOT NULL,
    textless   bigint NOT NULL,
    idle       bigint NOT NULL,
    -- rows of the source that are no records with a text, and those that may have become such since: where there are more,
    -- somebody deleted vectors, or wrote past the triggers
    beside     bigint NOT NULL,
    PRIMARY KEY (collection, tag)
);
