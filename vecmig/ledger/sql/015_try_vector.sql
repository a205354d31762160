-- vecmig's own tables, version 15: values that are no vectors are passed by, where a tag adopts what an expression gives.

-- The vector that an expression over one record gives, or another one where its value is none. It reads with the rights of
-- who calls, and costs more than the expression itself: it is for records among which such a value was met.
CREATE OR REPLACE FUNCTION {schema}.try_vector(expression text, source_row anyelement, otherwise anycompatible)
RETURNS anycompatible LANGUAGE plpgsql STABLE AS $function$
DECLARE
    vector otherwise%TYPE;
BEGIN
    EXECUTE 'SELECT ' || expression || ' FROM (SELECT ($1).*) AS s' INTO vector USING source_row;
    RETURN vector;
EXCEPTION
    WHEN assert_failure THEN
        RETURN otherwise;
    WHEN OTHERS THEN
        -- connections, transactions, rights and names, resources, locks, and the server are no value's doing
        IF left(SQLSTATE, 2) IN ('08', '25', '40', '42', '53', '55', '57', '58', 'XX') THEN
            RAISE;
        END IF;
        RETURN otherwise;
END
$function$;

-- for whoever owns it: default privileges may have opened it to others
DO $do$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT p.oid::regprocedure AS routine,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role
        FROM pg_proc p
        CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE p.oid = to_regprocedure($q${schema}.try_vector(text, anyelement, anycompatible)$q$) AND a.grantee <> p.proowner
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', given.routine, given.role);
    END LOOP;
END
$do$;
