"""What a database gives to every new object does not make vectors weaker, or emptier, than their source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from support.embedding import vector
from support.lab import LARGE, SMALL, Lab
from support.postgres import Connect, roles
from vecmig import runner
from vecmig.ledger import install, schema

Connection = psycopg.Connection[Any]

#: Every grant to a role on what vecmig has made: relations, their columns, sequences, functions, its schema.
_GRANTED = """
SELECT c.oid::regclass::text, a.privilege_type
FROM pg_class c, aclexplode(c.relacl) a
WHERE a.grantee = %(role)s::regrole AND c.oid <> 'public.documents'::regclass
UNION ALL
SELECT t.attrelid::regclass::text, a.privilege_type
FROM pg_attribute t, aclexplode(t.attacl) a
WHERE a.grantee = %(role)s::regrole AND t.attrelid <> 'public.documents'::regclass
UNION ALL
SELECT p.oid::regprocedure::text, a.privilege_type
FROM pg_proc p, aclexplode(p.proacl) a
WHERE a.grantee = %(role)s::regrole
UNION ALL
SELECT n.nspname, a.privilege_type
FROM pg_namespace n, aclexplode(n.nspacl) a
WHERE a.grantee = %(role)s::regrole AND n.nspname <> 'public'
ORDER BY 1, 2
"""
_POLICY = "CREATE POLICY mine ON documents USING (title = 'title ' || ltrim(current_user::text, 'tenant_'))"
_RLS_ON_EVERY_TABLE = """
CREATE FUNCTION protect() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE made record;
BEGIN
    FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE command_tag = 'CREATE TABLE' LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', made.object_identity);
    END LOOP;
END $$;
CREATE EVENT TRIGGER protect ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION protect()
"""


@pytest.fixture
def anon(connection: Connection, connect: Connect) -> Iterator[Connection]:
    """A role of everybody who has no account, as Supabase and PostgREST have it."""
    with roles(connection, "anon", "tenant_3"):
        yield connect(user="anon")


def _open_to_anon(connection: Connection, scope: str) -> None:
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        connection.execute(f"ALTER DEFAULT PRIVILEGES {scope} GRANT ALL ON {kind} TO anon")
    connection.execute("GRANT ALL ON SCHEMA public TO anon")


def _granted(connection: Connection, role: str = "anon") -> list[tuple[str, str]]:
    return connection.execute(_GRANTED, {"role": role}).fetchall()


@pytest.mark.parametrize("protected", [False, True], ids=["grants", "row security"])
@pytest.mark.parametrize("scope", ["", "IN SCHEMA public"], ids=["everywhere", "in public"])
def test_default_privileges_open_nothing(
    lab: Lab, connection: Connection, anon: Connection, scope: str, protected: bool
) -> None:
    """Born with GRANT ALL, a partition would show all rows to a role that the source's policy shows none."""
    _open_to_anon(connection, scope)
    allowed: list[tuple[str, str]] = []
    if protected:
        connection.execute(
            f"ALTER TABLE documents ENABLE ROW LEVEL SECURITY; {_POLICY}; GRANT SELECT ON documents TO anon"
        )
        allowed = [("documents_live", "SELECT"), ("documents_vectors", "SELECT"), ("vecmig", "USAGE")]
    lab.upgrade("r1")
    assert [(name.rpartition(".")[2], right) for name, right in _granted(connection)] == allowed
    lab.upgrade()
    lab.sync()
    assert [(name.rpartition(".")[2], right) for name, right in _granted(connection)] == allowed
    lab.downgrade()
    runner.ensure_version(lab.config)
    assert [(name.rpartition(".")[2], right) for name, right in _granted(connection)] == allowed
    if protected:
        for relation in ("documents_live", "documents_vectors"):
            assert anon.execute(f"SELECT count(*) FROM {relation}").fetchone() == (0,)
    part = lab.stamps(SMALL).relation.as_string(None)
    for statement in (f"SELECT FROM {part}", f"DELETE FROM {part}", f"TRUNCATE {part}", "SELECT FROM vecmig.route"):
        with pytest.raises(pg.InsufficientPrivilege):
            anon.execute(statement)


def test_what_an_earlier_version_left_open_is_closed_by_the_next_sync(
    lab: Lab, connection: Connection, anon: Connection
) -> None:
    connection.execute("GRANT SELECT ON documents TO tenant_3")
    lab.upgrade()
    _open_to_anon(connection, "")
    parts = [lab.stamps(tag).relation.as_string(None) for tag in (SMALL, LARGE)]
    for relation in ("documents_vectors", *parts):
        connection.execute(f"GRANT ALL ON {relation} TO anon")
    lab.sync()
    assert _granted(connection) == []
    assert [name for name, _ in _granted(connection, "tenant_3")] == ["documents_live", "documents_vectors", "vecmig"]


@pytest.mark.upgraded
def test_a_right_on_a_partition_is_closed_with_what_its_holder_passed_on(
    lab: Lab, connection: Connection, anon: Connection
) -> None:
    part = lab.stamps(LARGE).relation.as_string(None)
    connection.execute(f"GRANT USAGE ON SCHEMA vecmig TO anon; GRANT SELECT ON {part} TO anon WITH GRANT OPTION")
    anon.execute(f"GRANT SELECT ON {part} TO tenant_3")
    lab.sync()
    assert part not in {name for role in ("anon", "tenant_3") for name, _ in _granted(connection, role)}
    assert connection.execute(f"SELECT has_table_privilege('tenant_3', '{part}', 'SELECT')").fetchone() == (False,)


@pytest.mark.upgraded
def test_a_right_that_somebody_gave_by_hand_stays(lab: Lab, connection: Connection, anon: Connection) -> None:
    """Nobody but who gave it knows what it is for; audit names it."""
    connection.execute("GRANT SELECT ON documents_vectors TO anon; GRANT SELECT ON vecmig.route TO anon")
    lab.sync()
    runner.ensure_version(lab.config)
    assert [name for name, _ in _granted(connection)] == ["documents_vectors", "route"]


@pytest.mark.parametrize("by", ["default privileges", "PUBLIC"])
def test_readers_may_call_the_search_function_where_new_functions_are_closed(
    lab: Lab, connection: Connection, connect: Connect, anon: Connection, by: str
) -> None:
    connection.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    if by == "PUBLIC":
        connection.execute("GRANT SELECT ON documents TO PUBLIC")
    else:
        connection.execute("GRANT SELECT ON documents TO tenant_3")
    lab.upgrade()
    query = str(vector("title 3\n\nbody 3", 256).tolist())
    with connect(user="tenant_3") as tenant:
        assert tenant.execute("SELECT id FROM documents_search(%s::vector, 1)", [query]).fetchall() == [(3,)]
    if by != "PUBLIC":
        with pytest.raises(pg.InsufficientPrivilege, match="documents_search"):
            anon.execute("SELECT id FROM documents_search(%s::vector, 1)", [query])
        connection.execute("GRANT SELECT ON documents TO anon")
        lab.sync()
    assert anon.execute("SELECT id FROM documents_search(%s::vector, 1)", [query]).fetchall() == [(3,)]


def test_an_older_installation_is_closed_when_it_is_brought_up_to_date(
    lab: Lab, connection: Connection, anon: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What default privileges give to its tables today is taken away once, and nothing that others were granted."""
    _open_to_anon(connection, "")
    with monkeypatch.context() as before:
        before.setattr(schema, "FILES", schema.FILES[:3])
        before.setattr(schema, "VERSION", 3)
        install.ensure(lab.database)
    connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA vecmig TO anon; GRANT INSERT ON vecmig.event TO anon")
    connection.execute("GRANT USAGE ON vecmig.event_id_seq TO anon; GRANT SELECT ON vecmig.route TO tenant_3")
    assert len(_granted(connection)) > 10
    assert runner.ensure_version(lab.config) == (3, schema.VERSION)
    assert _granted(connection) == []
    assert _granted(connection, "tenant_3") == [("route", "SELECT")]


# Row-level security --------------------------------------------------------------------------------------------------


def test_row_security_that_comes_by_itself_empties_no_search(
    lab: Lab, connection: Connection, connect: Connect, anon: Connection
) -> None:
    connection.execute(_RLS_ON_EVERY_TABLE)
    connection.execute("GRANT SELECT ON documents TO tenant_3")
    lab.upgrade()
    connection.execute(
        "GRANT USAGE ON SCHEMA vecmig TO tenant_3; GRANT SELECT ON ALL TABLES IN SCHEMA vecmig TO tenant_3"
    )
    query = str(vector("title 3\n\nbody 3", 256).tolist())
    with connect(user="tenant_3") as tenant:
        assert tenant.execute("SELECT count(*) FROM documents_live").fetchone() == (20,)
        assert tenant.execute("SELECT id FROM documents_search(%s::vector, 1)", [query]).fetchall() == [(3,)]
    with lab.reader(lab.url.replace("//postgres@", "//tenant_3@")) as reader:
        assert len(reader.search("documents", "title 3\n\nbody 3", 5)) == 5
    connection.execute("ALTER TABLE documents_vectors ENABLE ROW LEVEL SECURITY")
    lab.sync()
    with connect(user="tenant_3") as tenant:
        assert tenant.execute("SELECT count(*) FROM documents_live").fetchone() == (20,)


def _secured(connection: Connection) -> list[tuple[bool]]:
    query = (
        "SELECT DISTINCT relrowsecurity FROM pg_class WHERE relkind IN ('r', 'p') AND relname ~ '^documents_vectors'"
    )
    return connection.execute(query).fetchall()


def test_row_security_follows_the_source_both_ways(
    lab: Lab, connection: Connection, connect: Connect, anon: Connection
) -> None:
    """It is on for the vectors table and for each partition, whose own policies alone hold for whoever names one."""
    connection.execute("GRANT SELECT ON documents TO tenant_3")
    lab.upgrade()
    assert _secured(connection) == [(False,)]
    connection.execute(f"ALTER TABLE documents ENABLE ROW LEVEL SECURITY; {_POLICY}")
    lab.sync()
    assert _secured(connection) == [(True,)]
    with connect(user="tenant_3") as tenant:
        assert tenant.execute("SELECT DISTINCT id FROM documents_vectors").fetchall() == [(3,)]
        part = lab.stamps(LARGE).relation.as_string(None)
        connection.execute(f"GRANT SELECT ON {part} TO tenant_3")
        assert tenant.execute(f"SELECT count(*) FROM {part}").fetchone() == (0,)
    connection.execute("ALTER TABLE documents DISABLE ROW LEVEL SECURITY")
    lab.sync()
    assert _secured(connection) == [(False,)]
    with connect(user="tenant_3") as tenant:
        assert tenant.execute("SELECT count(*) FROM documents_vectors").fetchone() == (40,)
        with pytest.raises(pg.InsufficientPrivilege):
            tenant.execute(f"SELECT count(*) FROM {part}")


def test_a_view_that_hides_rows_hides_their_vectors(
    lab: Lab, connection: Connection, connect: Connect, anon: Connection
) -> None:
    """By the page on grants a reader of a view is given the vectors table by hand."""
    connection.execute(
        f"ALTER TABLE documents ENABLE ROW LEVEL SECURITY; {_POLICY}; GRANT SELECT ON documents TO tenant_3"
    )
    connection.execute("CREATE VIEW shown WITH (security_invoker = true) AS SELECT * FROM documents")
    connection.execute("GRANT SELECT ON shown TO tenant_3")
    lab = lab.write(name="shown", source="public.shown")
    lab.upgrade()
    connection.execute("GRANT USAGE ON SCHEMA vecmig TO tenant_3")
    connection.execute("GRANT SELECT ON shown_vectors, shown_live TO tenant_3")
    query = str(vector("title 5\n\nbody 5", 256).tolist())
    with connect(user="tenant_3") as tenant:
        assert tenant.execute("SELECT DISTINCT id FROM shown_vectors").fetchall() == [(3,)]
        assert tenant.execute("SELECT id FROM shown_live").fetchall() == [(3,)]
        assert tenant.execute("SELECT id FROM shown_search(%s::vector, 5)", [query]).fetchall() == [(3,)]


# Grants on the live view ---------------------------------------------------------------------------------------------


def _acl(connection: Connection) -> set[tuple[str, str, bool, str | None]]:
    return set(
        connection.execute(
            "SELECT a.grantee::regrole::text, a.privilege_type, a.is_grantable, NULL "
            "FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = 'documents_live'::regclass "
            "UNION SELECT a.grantee::regrole::text, a.privilege_type, a.is_grantable, t.attname::text "
            "FROM pg_attribute t, aclexplode(t.attacl) a WHERE t.attrelid = 'documents_live'::regclass"
        )
    )


def test_a_live_view_that_was_dropped_comes_back_with_its_grants(
    lab: Lab, connection: Connection, anon: Connection
) -> None:
    connection.execute("GRANT SELECT ON documents TO tenant_3")
    lab.upgrade()
    connection.execute('CREATE ROLE "Odd one"; CREATE ROLE gone')
    connection.execute('GRANT SELECT ON documents_live TO "Odd one" WITH GRANT OPTION')
    connection.execute(
        "GRANT SELECT (id, tag) ON documents_live TO anon; GRANT SELECT ON documents_live TO gone, PUBLIC"
    )
    before = _acl(connection)
    lab.sync()
    connection.execute("DROP VIEW documents_live")
    lab.sync()
    assert _acl(connection) == before
    connection.execute('DROP VIEW documents_live; DROP ROLE gone, "Odd one"')
    lab.sync()
    assert {role for role, *_ in _acl(connection)} == {"postgres", "tenant_3", "anon", "-"}
