-- vecmig's own tables, version 22: revisions of the index alone, which go from a tag to the same one.

-- what searches of the tag went by before; NULL for a revision that moves reads to another tag
ALTER TABLE {schema}.revision ADD COLUMN index_before jsonb;
