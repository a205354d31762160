-- The triggers that tell of changes.

-- create_function --
-- it runs with its owner's rights, so no other schema may lend it a function or an operator
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
{settings}
AS {body}

-- create_rest --
CREATE OR REPLACE FUNCTION {rest}(noted bigint, ended boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
{settings}
AS {body}

-- open_rest --
-- what calls it at the end of a transaction may be another role's
SELECT pg_catalog.format('GRANT EXECUTE ON FUNCTION %%s TO %%I', %(rest)s::text, pg_catalog.pg_get_userbyid(p.proowner))
FROM pg_catalog.pg_proc p
WHERE p.oid = pg_catalog.to_regprocedure(%(caller)s) AND pg_catalog.pg_get_userbyid(p.proowner) <> current_user

-- function_body --
-- It never fails its writer: all that it does is done in a block of its own, and what goes wrong there is noted. It goes
-- by the names of the key columns as long as these have their numbers still, and else by the numbers.
--
-- Such a block takes a transaction id of its own once it writes. So a transaction's first two changes are written, and the
-- others are gathered in a setting that ends with the transaction: '' before the first change, 'one' after it, and then a
-- list that begins with the transaction's id and a note's. The note says that a full pass is needed: it calls the
-- function for the rest before the transaction ends, and goes only when that has written the list which it is named in.
DECLARE
    relation oid := {relation};
    gathered text := current_setting({gathered}, true);
    lists_begin text := concat('[', pg_current_xact_id(), ',');
    places text[];
    moved boolean := false;
    -- where a tag has adopted a column of the source: whether an update changed the 'vector', or the 'text' alone, or only
    -- what 'where' reads
    what text := CASE TG_OP WHEN 'INSERT' THEN 'vector' ELSE TG_ARGV[0] END;
    old_key jsonb;
    new_key jsonb;
    noted bigint;
    trouble text;
BEGIN
    BEGIN
        IF {in_place} THEN
            IF TG_OP IN ('UPDATE', 'DELETE') THEN
                old_key := jsonb_build_array({old_keys});
            END IF;
            IF TG_OP IN ('UPDATE', 'INSERT') THEN
                new_key := jsonb_build_array({new_keys});
            END IF;
        ELSE
            {find_elsewhere}
        END IF;
        IF old_key = new_key THEN
            old_key := NULL;
        ELSIF TG_OP = 'UPDATE' THEN
            {park}
            IF {carried} THEN
                -- under its new key the record is a new one, with the vector of this very text
                what := 'vector';
            END IF;
        END IF;
        IF trouble IS NOT NULL THEN
            NULL;
        ELSIF TG_OP = 'TRUNCATE' THEN
            {empty}
        ELSIF places IS NULL AND starts_with(gathered, lists_begin) THEN
            {gather}
        ELSE
            {work}
        END IF;
    EXCEPTION
        {exceptions}
    END;
    IF trouble IS NOT NULL THEN
        {note_full_pass}
    END IF;
    RETURN NULL;
END

-- exceptions --
WHEN serialization_failure THEN
    IF current_setting('transaction_isolation') = 'serializable' THEN
        -- the application's own transaction is to be run again
        RAISE;
    END IF;
    trouble := 'a change could not be noted, SQLSTATE ' || SQLSTATE;
-- whatever it is, except that the statement is cancelled, which OTHERS leaves out
WHEN OTHERS THEN
    trouble := 'a change could not be noted, SQLSTATE ' || SQLSTATE;

-- in_place --
(pg_identify_object_as_address('pg_class'::regclass, relation, {number})).object_names IS NOT DISTINCT FROM {names}

-- find_elsewhere --
-- The source may have another name; but where another relation has taken the name, they changed places, and the records
-- are not the vectors' any more. Numbers hold for the relation that they were taken from; one that was restored from a
-- dump has the same names.
SELECT CASE WHEN (n.nspname, c.relname) IS DISTINCT FROM ({source_schema}, {source_table})
                 AND (c.oid <> {oid} OR to_regclass({source}) IS NOT NULL)
            THEN format('triggers made for %s.%s are on %s.%s', {source_schema}, {source_table}, n.nspname, c.relname) END,
       ARRAY(SELECT a.attname
             FROM unnest({key_names}, {key_numbers}) WITH ORDINALITY AS k (name, number, place)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                                AND CASE WHEN c.oid = {oid} THEN a.attnum = k.number ELSE a.attname = k.name END
             ORDER BY k.place)
INTO trouble, places
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = relation;
IF trouble IS NULL AND cardinality(places) < cardinality({key_names}) THEN
    trouble := 'a key column is gone';
ELSIF trouble IS NULL THEN
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        EXECUTE (SELECT format('SELECT jsonb_build_array(%s)', string_agg(format({taken}, name), ', '))
                 FROM unnest(places) AS p (name)) INTO old_key USING OLD;
    END IF;
    IF TG_OP IN ('UPDATE', 'INSERT') THEN
        EXECUTE (SELECT format('SELECT jsonb_build_array(%s)', string_agg(format({taken}, name), ', '))
                 FROM unnest(places) AS p (name)) INTO new_key USING NEW;
    END IF;
END IF;

-- work --
-- A deleted record, or one that moved to another key, takes its vectors of all tags along. What the outbox has under that
-- key stays: another record may have taken it a moment ago, and if none did, the next run forgets it.
IF old_key IS NOT NULL THEN
    {look_behind}
    IF NOT moved THEN
        {forget};
        -- a trigger of somebody's on the vectors may have changed the source meanwhile
        gathered := current_setting({gathered}, true);
    END IF;
END IF;
IF new_key IS NOT NULL THEN
    {note};
END IF;
IF places IS NULL AND gathered = 'one' THEN
    noted := nextval(pg_get_serial_sequence({notes}, 'id'));
    PERFORM set_config({gathered}, concat(lists_begin, noted, ','), true);
    INSERT INTO {schema}.full_pass (id, collection, reason)
    OVERRIDING SYSTEM VALUE VALUES (noted, {collection}, {unfinished});
ELSIF places IS NULL AND NOT starts_with(coalesce(gathered, ''), lists_begin) THEN
    PERFORM set_config({gathered}, 'one', true);
END IF;

-- gather --
gathered := concat(gathered, jsonb_build_array(old_key, new_key, what), ',');
PERFORM set_config({gathered}, gathered, true);
IF octet_length(gathered) > 8000 THEN
    PERFORM {rest}(split_part(gathered, ',', 2)::bigint, false);
END IF;

-- rest_body --
-- What was gathered was in the hands of the session, which may have set it to anything: a key is brought to its types
-- again, and only a record that is not there loses its vectors. And the session may have put something else in the
-- source's place, or a policy before it, which would run with the rights of this function.
DECLARE
    gathered text := current_setting({gathered}, true);
    list_begins text := concat('[', pg_current_xact_id(), ',', noted, ',');
    relation oid := to_regclass({source_name});
    changes jsonb;
    old_key jsonb;
    trouble text;
BEGIN
    IF NOT starts_with(coalesce(gathered, ''), list_begins) THEN
        -- the list was taken away, so the note stands
        RETURN;
    END IF;
    PERFORM set_config({gathered}, 'one', true);
    BEGIN
        IF gathered = list_begins THEN
            NULL;
        ELSIF NOT EXISTS (SELECT FROM pg_trigger t
                          WHERE t.tgrelid = relation AND t.tgfoid = to_regprocedure({function_name}))
              OR row_security_active(relation) OR NOT ({in_place}) THEN
            trouble := 'the source was altered by a transaction that had changed its rows';
        ELSE
            changes := '[' || rtrim(substr(gathered, length(list_begins) + 1), ',') || ']';
            FOR old_key IN SELECT DISTINCT c -> 0 FROM jsonb_array_elements(changes) c
                           WHERE jsonb_typeof(c -> 0) = 'array' LOOP
                CONTINUE WHEN EXISTS (SELECT FROM {source} s WHERE {match_source});
                {forget};
            END LOOP;
            {note_all};
        END IF;
        IF trouble IS NULL AND ended THEN
            DELETE FROM {schema}.full_pass f WHERE f.id = noted;
        ELSIF trouble IS NULL THEN
            PERFORM set_config({gathered}, list_begins, true);
        END IF;
    EXCEPTION
        {exceptions}
    END;
    IF trouble IS NOT NULL THEN
        BEGIN
            UPDATE {schema}.full_pass f SET reason = trouble WHERE f.id = noted;
        EXCEPTION
            WHEN OTHERS THEN
                -- the note stands all the same
                NULL;
        END;
    END IF;
END

-- note_all --
-- in the order of the index, in which no two transactions wait for each other
INSERT INTO {schema}.change AS known (collection, key, vector_changed_in, text_changed_by)
SELECT {collection}, (array_agg(k.key))[1],
       CASE WHEN bool_or(k.what = 'vector') THEN pg_current_xact_id()::text::bigint END,
       CASE WHEN bool_or(k.what = 'text') AND NOT bool_or(k.what = 'vector') THEN
           ARRAY[session_user::text, current_setting('application_name')]
       END
FROM (SELECT jsonb_build_array({typed_key}) AS key, c ->> 2 AS what
      FROM jsonb_array_elements(changes) c
      WHERE jsonb_typeof(c -> 1) = 'array') k
GROUP BY md5(k.key::text)::uuid
ORDER BY md5(k.key::text)::uuid
ON CONFLICT (collection, (md5(key::text)::uuid)) DO UPDATE SET {renewed}

-- renewed --
-- a text that changed in a later transaction than the vector is not what that was made from
changed_at = clock_timestamp(),
vector_changed_in = CASE WHEN excluded.text_changed_by IS NULL OR known.vector_changed_in = pg_current_xact_id()::text::bigint
                         THEN coalesce(excluded.vector_changed_in, known.vector_changed_in) END,
-- with a third word where the vector changed before it, and was not taken over
text_changed_by = CASE WHEN excluded.text_changed_by IS NULL AND excluded.vector_changed_in IS NULL
                       THEN known.text_changed_by
                       WHEN excluded.text_changed_by IS NOT NULL
                            AND known.vector_changed_in IS DISTINCT FROM pg_current_xact_id()::text::bigint
                       THEN excluded.text_changed_by
                            || CASE WHEN known.vector_changed_in IS NOT NULL OR cardinality(known.text_changed_by) > 2
                                    THEN ARRAY['vector'] END END

-- look_behind --
-- an update that moves a row to another partition fires as DELETE and INSERT; a policy's functions are not to run here
IF TG_OP = 'DELETE' AND places IS NULL THEN
    IF row_security_active(relation) THEN
        RAISE insufficient_privilege;
    END IF;
    moved := EXISTS (SELECT FROM {source} s WHERE {match_source});
END IF;

-- empty --
TRUNCATE {vectors};
DELETE FROM {schema}.rejected WHERE collection = {collection};
IF places IS NULL AND NOT row_security_active(relation) AND NOT EXISTS (SELECT FROM {source}) THEN
    DELETE FROM {schema}.change WHERE collection = {collection};
END IF;

-- forget --
-- by tag and key, because the tag leads the primary key
DELETE FROM {vectors} v
WHERE v.tag = ANY (ARRAY(SELECT t.tag FROM {schema}.tag t WHERE t.collection = {collection})) AND {match_old};
DELETE FROM {schema}.rejected r
WHERE r.collection = {collection} AND md5(r.key::text)::uuid = md5({old_key}::text)::uuid

-- note --
INSERT INTO {schema}.change AS known (collection, key, vector_changed_in, text_changed_by)
VALUES ({collection}, {new_key},
        CASE WHEN {what} = 'vector' THEN pg_current_xact_id()::text::bigint END,
        CASE WHEN {what} = 'text' THEN ARRAY[session_user::text, current_setting('application_name')] END)
ON CONFLICT (collection, (md5(key::text)::uuid)) DO UPDATE SET {renewed}

-- note_full_pass --
-- once in a transaction, which the setting remembers
IF current_setting({noted}, true) IS DISTINCT FROM concat(pg_current_xact_id(), ' ', trouble) THEN
    BEGIN
        INSERT INTO {schema}.full_pass (collection, reason) VALUES ({collection}, trouble);
        PERFORM set_config({noted}, concat(pg_current_xact_id(), ' ', trouble), true);
    EXCEPTION
        WHEN OTHERS THEN
            IF SQLSTATE = '40001' AND current_setting('transaction_isolation') = 'serializable' THEN
                RAISE;
            END IF;
            RAISE WARNING 'vecmig could note neither a change nor that a full pass is needed: %', SQLERRM;
    END;
END IF;

-- create_track --
CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT OR DELETE ON {source}
    FOR EACH ROW EXECUTE FUNCTION {function}()

-- create_track_update --
CREATE OR REPLACE TRIGGER {trigger} AFTER UPDATE ON {source}
    FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION {function}({what})

-- create_track_vector --
CREATE OR REPLACE TRIGGER {trigger} AFTER UPDATE ON {source}
    FOR EACH ROW WHEN ({vector_changed}) EXECUTE FUNCTION {function}('vector')

-- create_track_where --
CREATE OR REPLACE TRIGGER {trigger} AFTER UPDATE ON {source}
    FOR EACH ROW WHEN ({moved}) EXECUTE FUNCTION {function}('where')

-- create_track_truncate --
CREATE OR REPLACE TRIGGER {trigger} AFTER TRUNCATE ON {source}
    FOR EACH STATEMENT EXECUTE FUNCTION {function}()

-- rest_trigger --
SELECT t.tgenabled
FROM pg_catalog.pg_trigger t
WHERE t.tgrelid = pg_catalog.to_regclass(%(notes)s) AND t.tgfoid = pg_catalog.to_regprocedure(%(caller)s)

-- create_rest_trigger --
CREATE CONSTRAINT TRIGGER track_rest AFTER INSERT ON {schema}.full_pass
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.reason = {unfinished}) EXECUTE FUNCTION {schema}.track_rest()

-- enable_rest_trigger --
-- a source's triggers may have been let fire in replica sessions
ALTER TABLE {schema}.full_pass ENABLE ALWAYS TRIGGER track_rest

-- enabled --
-- the triggers that fire also where a session says that it is a replica
SELECT t.tgname
FROM pg_catalog.pg_trigger t
WHERE t.tgrelid = pg_catalog.to_regclass(%(source)s) AND t.tgname = ANY (%(names)s) AND t.tgenabled IN ('A', 'R')

-- enable_always --
ALTER TABLE {source} ENABLE ALWAYS TRIGGER {trigger}

-- calling --
-- a partition's clone goes with the trigger of its parent
SELECT t.tgname, n.nspname, c.relname
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgfoid = pg_catalog.to_regprocedure(%(function)s) AND t.tgparentid = 0
ORDER BY n.nspname, c.relname, t.tgname

-- other_ledger --
-- whose trigger function the triggers call that have this collection's names, and whose vectors its live view shows
SELECT n.nspname
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
WHERE t.tgrelid = pg_catalog.to_regclass(%(source)s) AND t.tgname = ANY (%(triggers)s)
  AND f.proname = %(function)s AND n.nspname <> %(schema)s
UNION ALL
SELECT n.nspname
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
                           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
JOIN pg_catalog.pg_namespace n ON n.nspname <> %(schema)s AND n.nspname = replace(substring(
         pg_catalog.obj_description(d.refobjid, 'pg_class') FROM 'vecmig \(ledger in schema "((?:[^"]|"")*)"\)'), '""', '"')
WHERE r.ev_class = pg_catalog.to_regclass(%(live)s)
  AND d.refobjid IS DISTINCT FROM pg_catalog.to_regclass(%(vectors)s)
LIMIT 1

-- has_function --
SELECT pg_catalog.to_regprocedure(%(function)s) IS NOT NULL

-- drop_functions --
DROP FUNCTION IF EXISTS {function}(), {rest}(bigint, boolean)

-- drop_trigger --
DROP TRIGGER IF EXISTS {trigger} ON {source}

-- triggers --
SELECT count(*)
FROM pg_catalog.pg_trigger t
WHERE t.tgrelid = pg_catalog.to_regclass(%(source)s) AND t.tgname = ANY (%(names)s) AND t.tgenabled IN ('O', 'A')

-- tracking --
SELECT ({triggers}), ({old_triggers}), ({open_function})

-- old_triggers --
-- by the operator in the stored condition: its printed form depends on the search path
SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
    WHERE t.tgrelid = pg_catalog.to_regclass(%(source)s) AND t.tgname = ANY (%(names)s)
      AND (f.prosrc <> %(body)s
           OR NOT EXISTS (SELECT FROM pg_catalog.pg_proc p
                          WHERE p.oid = pg_catalog.to_regprocedure(%(rest)s) AND p.prosrc = %(rest_body)s)
           OR NOT EXISTS (SELECT FROM pg_catalog.pg_trigger r
                          WHERE r.tgrelid = pg_catalog.to_regclass(%(notes)s) AND r.tgenabled = 'A'
                            AND r.tgfoid = pg_catalog.to_regprocedure(%(caller)s))
           OR strpos(t.tgqual::text, ':opno ' || 'pg_catalog.*<>(record,record)'::regoperator::oid || ' ') > 0)
      AND pg_catalog.pg_has_role(f.proowner, 'USAGE') AND pg_catalog.has_table_privilege(t.tgrelid, 'TRIGGER'))

-- open_function --
-- whether PUBLIC may run what the triggers run, and this role may forbid it
SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
    CROSS JOIN pg_catalog.aclexplode(coalesce(f.proacl, pg_catalog.acldefault('f', f.proowner))) a
    WHERE t.tgrelid = pg_catalog.to_regclass(%(source)s) AND t.tgname = ANY (%(names)s)
      AND a.grantee = 0 AND pg_catalog.pg_has_role(f.proowner, 'USAGE')
      AND pg_catalog.has_table_privilege(t.tgrelid, 'TRIGGER'))

-- silent_writers --
-- changes that fire no ordinary trigger: by logical replication, and in sessions that say they are replicas
SELECT 'subscription', s.subname::text
FROM pg_catalog.pg_subscription_rel r
JOIN pg_catalog.pg_subscription s ON s.oid = r.srsubid
WHERE r.srrelid = pg_catalog.to_regclass(%(source)s)
  AND EXISTS (SELECT FROM pg_catalog.pg_trigger t
              WHERE t.tgrelid = r.srrelid AND t.tgname = ANY (%(names)s::text[]) AND t.tgenabled = 'O')
UNION ALL
SELECT 'role', CASE WHEN d.setrole = 0 THEN 'every role' ELSE pg_catalog.pg_get_userbyid(d.setrole)::text END
FROM pg_catalog.pg_db_role_setting d
WHERE d.setdatabase IN (0, (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database()))
  AND d.setconfig && ARRAY['session_replication_role=replica']
ORDER BY 1, 2

-- trial_key --
-- a key of the source, or one of NULLs where it has none
SELECT coalesce((SELECT {key_json} FROM {records} s LIMIT 1), {nulls})::text

-- trial_column --
SELECT FROM {source} s, {vectors} v WHERE v.{column} {equals} s.{column} LIMIT 0

-- trial_round --
-- of the first records, one whose key does not come back from the outbox as it was
SELECT {key_json}::text
FROM (SELECT s.* FROM {records} s LIMIT 1000) s
CROSS JOIN LATERAL (SELECT {key_json} AS key) c
WHERE ({changed_key}) IS FALSE
LIMIT 1

-- carried --
-- whether the vector that a record had under its old key is of the text that it has now, and did not change
(what IS DISTINCT FROM 'text'
 OR EXISTS (SELECT FROM {records} s, {stamps} v WHERE {new_record} AND {old_stamp} AND v.source_hash = {hash})
    AND NOT EXISTS (SELECT FROM {schema}.superseded x
                    WHERE x.collection = {collection} AND x.tag = {tag} AND md5(x.key::text)::uuid = md5(old_key::text)::uuid))
