-- vecmig's own tables, version 20: how the vectors of a tag are indexed, where that is a choice of its own.

ALTER TABLE {schema}.tag
    -- what searches go by: method, type, m, ef_construction, ef_search, rerank; what is not said is as the collection has it
    ADD COLUMN index jsonb NOT NULL DEFAULT '{{}}',
    -- what a gate found when it compared these searches with the exact answer; NULL before that
    ADD COLUMN recall jsonb;
