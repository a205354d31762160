-- vecmig's own tables, version 12: where the vectors of a tag live. The name of a partition follows from its tag.

ALTER TABLE {schema}.tag
    ADD COLUMN home text NOT NULL DEFAULT 'partition',
    DROP COLUMN partition;
