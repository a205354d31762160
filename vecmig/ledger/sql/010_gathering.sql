-- vecmig's own tables, version 10: changes that a transaction gathers, and writes together before it ends.

-- Called by a note in full_pass, which the triggers of a source make with the second change of a transaction. What goes wrong
-- fails no writer: the note stands. It runs with its owner's rights, so it calls what lies beside it, and nothing that may
-- lie beside a table of others with a trigger for it.
CREATE FUNCTION {schema}.track_rest() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    BEGIN
        EXECUTE (SELECT format('SELECT %I.%I($1, true)', n.nspname, NEW.collection || '_track_rest')
                 FROM pg_trigger t
                 JOIN pg_proc p ON p.oid = t.tgfoid
                 JOIN pg_namespace n ON n.oid = p.pronamespace
                 WHERE t.tgrelid = TG_RELID AND t.tgname = TG_NAME) USING NEW.id;
    EXCEPTION
        WHEN serialization_failure THEN
            RAISE;
        WHEN OTHERS THEN
            NULL;
    END;
    RETURN NULL;
END $$;
