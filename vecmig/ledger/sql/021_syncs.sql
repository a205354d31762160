-- vecmig's own tables, version 21: the events of syncs go after a while; all others stay, as they were.

DROP TRIGGER append_only ON {schema}.event;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON {schema}.event
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.event_is_append_only();
CREATE TRIGGER kept BEFORE DELETE ON {schema}.event FOR EACH ROW
    WHEN (OLD.kind <> 'sync' AND NOT (OLD.kind IN ('failed', 'succeeded') AND OLD.data ->> 'what' LIKE 'sync%'))
    EXECUTE FUNCTION {schema}.event_is_append_only();
