-- vecmig's own tables: what the live views show, and how they step aside for a migration of their source.

ALTER TABLE {schema}.collection
    -- what collections.yaml says: null, "all", or a list of columns
    ADD COLUMN live_columns jsonb,
    -- what the view showed when nothing could be said yet; kept until something is
    ADD COLUMN kept_columns text[];

UPDATE {schema}.collection c
SET kept_columns = (
    SELECT array_agg(a.attname::text ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = to_regclass(quote_ident(coalesce(c.home_schema, c.source_schema)) || '.' || quote_ident(c.name || '_live'))
      AND a.attnum > 0 AND NOT a.attisdropped AND a.attname NOT IN ('tag', 'chunk', 'embedding'));

-- the live views that stepped aside, and what puts them and the triggers back
CREATE TABLE {schema}.detached (
    collection  text PRIMARY KEY REFERENCES {schema}.collection,
    detached_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    detached_by text NOT NULL DEFAULT session_user,
    -- the live tag that the view read; null where there was no view
    tag         text,
    -- statements: the view; its owner, comment and grants; the triggers with their conditions
    view        text,
    belongings  text[] NOT NULL,
    triggers    text[] NOT NULL
);

-- Statements that give a relation its owner, comment and grants again.
CREATE FUNCTION {schema}.belongings(relation regclass) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $function$
WITH granted AS (
    SELECT a.grantee, a.privilege_type, a.is_grantable, '' AS columns
    FROM pg_class c, LATERAL aclexplode(c.relacl) a
    WHERE c.oid = relation AND a.grantee <> c.relowner
    UNION ALL
    SELECT a.grantee, a.privilege_type, a.is_grantable, ' (' || quote_ident(t.attname) || ')'
    FROM pg_attribute t, LATERAL aclexplode(t.attacl) a
    WHERE t.attrelid = relation AND t.attnum > 0 AND NOT t.attisdropped)
SELECT array_agg(line ORDER BY place) FROM (
    SELECT 1, format('GRANT %s%s ON %s TO %s%s', privilege_type, columns, relation,
                  CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM granted
    UNION ALL
    SELECT 2, format('COMMENT ON VIEW %s IS %L', relation, obj_description(relation, 'pg_class'))
    WHERE obj_description(relation, 'pg_class') IS NOT NULL
    UNION ALL
    -- last, because its owner may be one for whom nothing can be granted
    SELECT 3, format('ALTER VIEW %s OWNER TO %s', relation, quote_ident(pg_get_userbyid(c.relowner)))
    FROM pg_class c
    WHERE c.oid = relation AND pg_get_userbyid(c.relowner) <> current_user) AS lines (place, line)
$function$;

-- Run them; a role or a column of one may have gone since.
CREATE PROCEDURE {schema}.give_back(statements text[])
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $function$
DECLARE
    line text;
BEGIN
    FOREACH line IN ARRAY coalesce(statements, ARRAY[]::text[]) LOOP
        BEGIN
            EXECUTE line;
        EXCEPTION WHEN undefined_object OR undefined_column THEN
            RAISE WARNING 'vecmig could not run: % (%)', line, SQLERRM;
        END;
    END LOOP;
END
$function$;

-- Drop a live view, unless something of the team's own hangs on it.
CREATE PROCEDURE {schema}.drop_view(relation regclass)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $function$
DECLARE
    who text;
BEGIN
    IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = relation AND NOT t.tgisinternal) THEN
        RAISE EXCEPTION USING ERRCODE = 'VM021', MESSAGE = format('%s has triggers, which would be lost', relation),
            HINT = 'Drop them, and create them again once the view is attached.';
    END IF;
    EXECUTE format('DROP VIEW %s', relation);
EXCEPTION WHEN dependent_objects_still_exist THEN
    GET STACKED DIAGNOSTICS who = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION USING ERRCODE = 'VM021', MESSAGE = format('others depend on %s: %s', relation, who),
        HINT = 'Drop these first, and create them again once the view is attached.';
END
$function$;

-- Let the live view of a collection step aside, and let its triggers bind no column. Nothing happens if that is so.
CREATE FUNCTION {schema}.view_detach(collection text, host text DEFAULT NULL, git_commit text DEFAULT NULL,
                                     version text DEFAULT 'SQL') RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $function$
DECLARE
    known {schema}.collection;
    seen regclass;
    bound record;
    bare text[] := ARRAY[]::text[];
BEGIN
    -- its route is held against a cutover
    PERFORM FROM {schema}.route r WHERE r.collection = $1 FOR UPDATE;
    SELECT * INTO known FROM {schema}.collection c WHERE c.name = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'VM020', MESSAGE = format('vecmig has no collection %s', $1);
    END IF;
    IF EXISTS (SELECT FROM {schema}.detached d WHERE d.collection = $1) THEN
        RETURN false;
    END IF;
    seen := to_regclass(format('%I.%I', coalesce(known.home_schema, known.source_schema), $1 || '_live'));
    FOR bound IN
        SELECT t.tgname, t.tgrelid::regclass AS relation, t.tgfoid::regproc AS function,
               pg_get_triggerdef(t.oid) AS made,
               CASE t.tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'D' THEN 'DISABLE'
                                ELSE 'ENABLE' END AS enabled
        FROM pg_trigger t
        -- on whatever they are: the source may have another name now; those of partitions follow their parent's
        WHERE t.tgparentid = 0 AND t.tgqual IS NOT NULL AND NOT t.tgisinternal
          AND t.tgfoid = (SELECT p.oid
                          FROM pg_proc p
                          JOIN pg_type own ON own.oid = pg_typeof(known) AND own.typnamespace = p.pronamespace
                          WHERE p.proname = $1 || '_track')
    LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION %s()',
                       bound.tgname, bound.relation, bound.function);
        EXECUTE format('ALTER TABLE %s %s TRIGGER %I', bound.relation, bound.enabled, bound.tgname);
        bare := bare || ARRAY[
            regexp_replace(bound.made, '^CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER'),
            format('ALTER TABLE %s %s TRIGGER %I', bound.relation, bound.enabled, bound.tgname)];
    END LOOP;
    INSERT INTO {schema}.detached (collection, tag, view, belongings, triggers)
    SELECT $1, r.live,
           (SELECT format('CREATE VIEW %s%s AS %s', seen,
                          ' WITH (' || nullif(array_to_string(c.reloptions, ', '), '') || ')', pg_get_viewdef(seen))
            FROM pg_class c WHERE c.oid = seen AND c.relkind = 'v'),
           coalesce({schema}.belongings(seen), ARRAY[]::text[]), bare
    FROM {schema}.route r
    WHERE r.collection = $1;
    IF seen IS NOT NULL THEN
        CALL {schema}.drop_view(seen);
    END IF;
    INSERT INTO {schema}.event (kind, collection, host, git_commit, version) VALUES ('view_detach', $1, $2, $3, $4);
    RETURN true;
END
$function$;

-- Put view and triggers back as they were. Where the migration took away what they read, or a cutover came between,
-- they stay aside until `vecmig view attach` makes them by collections.yaml.
CREATE FUNCTION {schema}.view_attach(collection text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $function$
DECLARE
    was {schema}.detached;
    line text;
BEGIN
    PERFORM FROM {schema}.route r WHERE r.collection = $1 FOR UPDATE;
    SELECT * INTO was FROM {schema}.detached d WHERE d.collection = $1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    BEGIN
        IF was.tag IS DISTINCT FROM (SELECT r.live FROM {schema}.route r WHERE r.collection = $1) THEN
            RAISE EXCEPTION 'another tag is live now';
        END IF;
        FOREACH line IN ARRAY was.triggers LOOP
            EXECUTE line;
        END LOOP;
        IF was.view IS NOT NULL THEN
            EXECUTE was.view;
        END IF;
        CALL {schema}.give_back(was.belongings);
    EXCEPTION WHEN raise_exception OR undefined_column OR undefined_table OR undefined_function OR datatype_mismatch
                OR syntax_error OR duplicate_table THEN
        RAISE WARNING 'the live view of % stays detached: %', $1, SQLERRM
            USING HINT = 'Run: vecmig view attach ' || $1;
        RETURN false;
    END;
    DELETE FROM {schema}.detached d WHERE d.collection = $1;
    -- no trigger fires where a column's type is altered
    INSERT INTO {schema}.full_pass (collection, reason)
    VALUES ($1, 'columns may have been altered while the view was detached');
    INSERT INTO {schema}.event (kind, collection, version) VALUES ('view_attach', $1, 'SQL');
    RETURN true;
END
$function$;

-- for whoever owns them: default privileges may have opened them to others
DO $do$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT p.oid::regprocedure AS routine,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role
        FROM pg_proc p
        JOIN pg_class t ON t.oid = to_regclass($q${schema}.detached$q$) AND t.relnamespace = p.pronamespace
        CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE p.proname IN ('belongings', 'give_back', 'drop_view', 'view_detach', 'view_attach')
          AND a.grantee <> p.proowner
    LOOP
        EXECUTE format('REVOKE ALL ON ROUTINE %s FROM %s', given.routine, given.role);
    END LOOP;
END
$do$;
