-- vecmig's own tables, version 10: changes that a transaction gathers, and writes together before it ends.

-- The triggers of a source gather what a transaction changes after its second row, and set vecmig.gathering while they note
-- that one: so this is called once, before the transaction ends. It fails no writer, as little as they do.
CREATE FUNCTION {schema}.track_rest() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    trouble text;
BEGIN
    BEGIN
        -- of this schema, whatever table of whosoever the trigger may be on
        EXECUTE format('SELECT %s.%I($1)', $schema${schema}$schema$, NEW.collection || '_track_rest') USING 'one';
    EXCEPTION
        WHEN serialization_failure THEN
            RAISE;
        WHEN OTHERS THEN
            trouble := 'changes that were gathered could not be noted, SQLSTATE ' || SQLSTATE;
            BEGIN
                INSERT INTO {schema}.full_pass (collection, reason) VALUES (NEW.collection, trouble);
            EXCEPTION
                WHEN OTHERS THEN
                    RAISE WARNING 'vecmig could note neither changes nor that a full pass is needed: %', SQLERRM;
            END;
    END;
    RETURN NULL;
END $function$;
CREATE CONSTRAINT TRIGGER track_rest AFTER INSERT OR UPDATE ON {schema}.change
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('vecmig.gathering', true) = 'on') EXECUTE FUNCTION {schema}.track_rest();
-- a source's triggers may have been let fire in replica sessions
ALTER TABLE {schema}.change ENABLE ALWAYS TRIGGER track_rest;
