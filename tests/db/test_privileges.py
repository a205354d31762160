"""Grants and row-level security: a vector is as well protected as its record, and a hidden record is not covered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from support.embedding import vector
from support.lab import LARGE, SMALL, Lab
from support.postgres import Connect
from vecmig.errors import DatabaseError
from vecmig.ledger.access import mirror_access

Connection = psycopg.Connection[Any]
Role = Callable[..., Connection]


@pytest.fixture
def role(connection: Connection, connect: Connect) -> Iterator[Role]:
    """``role("name", "GRANT …")`` makes a role, lets it in, runs the statements, and gives its connection."""
    made: list[str] = []

    def make(name: str, *statements: str, options: str = "") -> Connection:
        connection.execute(f"CREATE ROLE {name} LOGIN {options}")
        made.append(name)
        for statement in statements:
            connection.execute(statement)
        return connect(user=name)

    yield make
    for name in made:
        connection.execute(f"DROP OWNED BY {name} CASCADE")
        connection.execute(f"DROP ROLE {name}")


def _count(connection: Connection, relation: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {relation}").fetchone()
    assert row is not None
    return int(row[0])


def _as(lab: Lab, name: str) -> str:
    return lab.url.replace("//postgres@", f"//{name}@")


# Applications ------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_an_application_may_write_the_source_and_nothing_else(lab: Lab, role: Role) -> None:
    """Its triggers keep the outbox and the vectors, which the application itself may not touch."""
    app = role("app_writer", "GRANT SELECT, INSERT, UPDATE, DELETE ON documents TO app_writer")
    app.execute("SET search_path = ''")
    app.execute("INSERT INTO public.documents VALUES (21, 'a', 'b')")
    app.execute("UPDATE public.documents SET body = 'x' WHERE id = 1")
    app.execute("UPDATE public.documents SET id = 99 WHERE id = 2")
    app.execute("DELETE FROM public.documents WHERE id = 3")
    assert lab.status().outbox.records == 3
    for statement in (
        "SELECT * FROM vecmig.change",
        "DELETE FROM vecmig.documents_vectors",
        "SELECT vecmig.documents_track()",
        "CREATE TRIGGER t AFTER INSERT ON public.documents FOR EACH ROW EXECUTE FUNCTION vecmig.documents_track()",
    ):
        with pytest.raises(pg.InsufficientPrivilege):
            app.execute(statement)
    lab.sync()
    assert lab.cover(SMALL).share == lab.cover(LARGE).share == 1.0


@pytest.mark.upgraded
def test_the_trigger_function_borrows_nothing_from_the_caller(lab: Lab, role: Role, connection: Connection) -> None:
    """It runs with its owner's rights, so a function of the caller's must not stand in for one of PostgreSQL's."""
    evil = role(
        "app_evil", "GRANT SELECT, INSERT, UPDATE ON documents TO app_evil", "CREATE SCHEMA AUTHORIZATION app_evil"
    )
    evil.execute(
        "CREATE FUNCTION app_evil.jsonb_build_array(VARIADIC bigint[]) RETURNS jsonb LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''taken over as %'', current_user; END'"
    )
    evil.execute("CREATE TEMP TABLE change (collection text, key jsonb)")
    evil.execute("SET search_path = app_evil, pg_temp, public, pg_catalog")
    evil.execute("UPDATE documents SET body = 'x' WHERE id = 1")
    assert lab.status().outbox.records == 1
    row = connection.execute(
        "SELECT prosecdef, proconfig::text FROM pg_proc WHERE proname = 'documents_track'"
    ).fetchone()
    assert row is not None
    assert row[0]
    assert "search_path=pg_catalog, pg_temp" in row[1]


def test_a_key_type_of_a_schema_that_others_may_write_lends_no_function(
    bare_lab: Lab, role: Role, connection: Connection
) -> None:
    """The type's operators are needed to compare keys; nothing else of its schema is."""
    connection.execute("CREATE TYPE public.mood AS ENUM ('sad', 'ok'); GRANT CREATE ON SCHEMA public TO PUBLIC")
    connection.execute(
        "CREATE TABLE documents (id mood PRIMARY KEY, body text); INSERT INTO documents VALUES ('ok', 'x')"
    )
    lab = bare_lab.write(text="body")
    lab.upgrade("r1")
    evil = role("app_evil", "GRANT SELECT, UPDATE ON documents TO app_evil")
    evil.execute(
        "CREATE FUNCTION public.jsonb_build_array(mood) RETURNS jsonb LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''taken over as %'', current_user; END'"
    )
    evil.execute(
        "CREATE FUNCTION public.same(mood, mood) RETURNS bool LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''taken over as %'', current_user; END'"
    )
    evil.execute("CREATE OPERATOR public.= (LEFTARG = mood, RIGHTARG = mood, FUNCTION = public.same)")
    evil.execute("UPDATE documents SET body = 'y'")
    evil.execute("UPDATE documents SET id = 'sad'")
    assert _count(connection, "vecmig.change") == 2, "the note of the old key stays until a run has seen it"
    assert _count(connection, "documents_vectors") == 0


def test_who_may_read_the_source_may_search_it(lab: Lab, role: Role) -> None:
    reader = role("app_reader", "GRANT SELECT ON documents TO app_reader")
    other = role("app_other")
    lab.upgrade()
    query = str(vector("title 3\n\nbody 3", 256).tolist())
    assert _count(reader, "documents_live") == 20
    assert reader.execute("SELECT id FROM documents_search(%s::vector, 1)", [query]).fetchall() == [(3,)]
    for statement in ("SELECT * FROM documents_live", "SELECT * FROM vecmig.documents_vectors"):
        with pytest.raises(pg.InsufficientPrivilege):
            other.execute(statement)
    with pytest.raises(pg.InsufficientPrivilege):
        other.execute("SELECT * FROM documents_search(%s::vector, 1)", [query])
    with pytest.raises(pg.InsufficientPrivilege):
        reader.execute("DELETE FROM documents_vectors")


@pytest.mark.upgraded
def test_the_reader_works_for_a_role_that_may_only_read(lab: Lab, role: Role) -> None:
    role(
        "app_asking",
        "GRANT SELECT ON documents, documents_vectors TO app_asking",
        "GRANT USAGE ON SCHEMA vecmig TO app_asking",
        "GRANT SELECT ON ALL TABLES IN SCHEMA vecmig TO app_asking",
    )
    with lab.reader(_as(lab, "app_asking")) as reader:
        (hit,) = reader.search("documents", "title 3\n\nbody 3", 1)
    assert (hit.key, hit.tag) == ((3,), LARGE)


# Row-level security ------------------------------------------------------------------------------------------------

_POLICY = "CREATE POLICY mine ON documents USING (title = 'title ' || ltrim(current_user::text, 'tenant_'))"


def test_a_policy_of_the_source_hides_its_vectors(lab: Lab, role: Role, connection: Connection) -> None:
    connection.execute(f"ALTER TABLE documents ENABLE ROW LEVEL SECURITY; {_POLICY}")
    tenant = role("tenant_3", "GRANT SELECT, UPDATE ON documents TO tenant_3")
    connection.execute("GRANT USAGE ON SCHEMA public TO tenant_3")
    lab.upgrade()
    connection.execute("CREATE SCHEMA IF NOT EXISTS vecmig; GRANT USAGE ON SCHEMA vecmig TO tenant_3")
    connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA vecmig TO tenant_3")

    assert _count(connection, "documents_live") == 20
    assert tenant.execute("SELECT id FROM documents_live").fetchall() == [(3,)]
    assert tenant.execute("SELECT DISTINCT id FROM documents_vectors").fetchall() == [(3,)]
    # it may, by ALL TABLES, and is shown nothing there
    assert _count(tenant, lab.stamps(LARGE).relation.as_string(None)) == 0
    query = str(vector("title 5\n\nbody 5", 256).tolist())
    assert tenant.execute("SELECT id FROM documents_search(%s::vector, 5)", [query]).fetchall() == [(3,)]
    with lab.reader(_as(lab, "tenant_3")) as reader:
        assert [hit.key for hit in reader.search("documents", "title 5\n\nbody 5", 5)] == [(3,)]
    tenant.execute("UPDATE documents SET body = 'mine'")
    assert lab.status().outbox.records == 1


def test_a_policy_that_comes_later_is_taken_over(lab: Lab, role: Role, connection: Connection) -> None:
    tenant = role("tenant_3", "GRANT SELECT ON documents TO tenant_3")
    lab.upgrade("r1")
    connection.execute(f"ALTER TABLE documents ENABLE ROW LEVEL SECURITY; {_POLICY}")
    assert tenant.execute("SELECT id FROM documents_live").fetchall() == [(3,)]
    lab.upgrade()
    assert tenant.execute("SELECT DISTINCT id FROM documents_vectors").fetchall() == [(3,)]


def test_a_migrator_that_does_not_see_every_record_is_refused(lab: Lab, role: Role, connection: Connection) -> None:
    """Otherwise it would report full coverage of what it is shown."""
    connection.execute(f"ALTER TABLE documents ENABLE ROW LEVEL SECURITY; {_POLICY}")
    connection.execute("ALTER TABLE documents FORCE ROW LEVEL SECURITY")
    role(
        "tenant_3",
        "ALTER TABLE documents OWNER TO tenant_3",
        "GRANT ALL ON SCHEMA public TO tenant_3",
        f"GRANT CREATE ON DATABASE {connection.info.dbname} TO tenant_3",
    )
    with pytest.raises(DatabaseError, match="row-level security") as refused:
        lab.write(url=_as(lab, "tenant_3")).upgrade()
    shown = lab.write(url=_as(lab, "tenant_3")).status().problem
    assert isinstance(shown, DatabaseError)
    assert "row-level security" in shown.message
    assert shown.hint == refused.value.hint
    assert "BYPASSRLS" in shown.hint
    connection.execute("ALTER TABLE documents NO FORCE ROW LEVEL SECURITY")
    assert lab.write(url=_as(lab, "tenant_3")).upgrade() == ["live", "live"]
    connection.execute("ALTER TABLE documents OWNER TO postgres")


# Migrators ---------------------------------------------------------------------------------------------------------


def test_an_owner_who_is_no_superuser_can_do_everything(lab: Lab, role: Role, connection: Connection) -> None:
    role(
        "app_owner",
        "ALTER TABLE documents OWNER TO app_owner",
        "GRANT ALL ON SCHEMA public TO app_owner",
        f"GRANT CREATE ON DATABASE {connection.info.dbname} TO app_owner",
    )
    owner = lab.write(url=_as(lab, "app_owner"))
    assert owner.upgrade() == ["live", "live"]
    connection.execute("UPDATE documents SET body = 'x' WHERE id = 1")
    owner.sync()
    assert owner.downgrade() == ["r2"]
    with owner.reader() as reader:
        assert len(reader.search("documents", "x", 3)) == 3
    connection.execute("ALTER TABLE documents OWNER TO postgres")


def test_a_role_that_may_only_read_is_told_so_before_anything_changes(
    lab: Lab, role: Role, connection: Connection
) -> None:
    role("app_reader", "GRANT SELECT ON documents TO app_reader")
    with pytest.raises(DatabaseError, match="permission denied") as refused:
        lab.write(url=_as(lab, "app_reader")).upgrade()
    assert "owner of the source table" in refused.value.hint
    assert connection.execute("SELECT to_regclass('documents_vectors')").fetchone() == (None,)


def test_a_schema_that_was_made_for_vecmig_needs_no_right_on_the_database(
    lab: Lab, role: Role, connection: Connection
) -> None:
    role(
        "app_owner",
        "ALTER TABLE documents OWNER TO app_owner",
        "GRANT ALL ON SCHEMA public TO app_owner",
        "CREATE SCHEMA vecmig AUTHORIZATION app_owner",
    )
    assert lab.write(url=_as(lab, "app_owner")).upgrade() == ["live", "live"]
    connection.execute("ALTER TABLE documents OWNER TO postgres")


def test_the_right_to_temporary_objects_is_asked_for_where_triggers_are(
    lab: Lab, role: Role, connection: Connection
) -> None:
    database = connection.info.dbname
    role(
        "app_owner",
        "ALTER TABLE documents OWNER TO app_owner",
        "GRANT ALL ON SCHEMA public TO app_owner",
        f"GRANT CREATE ON DATABASE {database} TO app_owner",
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
    )
    lab = lab.write(url=_as(lab, "app_owner"))
    with pytest.raises(DatabaseError, match=f"lacks TEMPORARY on database {database} for") as refused:
        lab.upgrade()
    assert refused.value.state == "Nothing was changed."
    assert lab.write(options={"change_tracking": "scan"}).upgrade("r1") == ["live"]
    connection.execute("ALTER TABLE documents OWNER TO postgres")


@pytest.mark.upgraded("r1")
def test_access_is_mirrored_as_often_as_one_likes(lab: Lab, role: Role, connection: Connection) -> None:
    reader = role("app_late", "GRANT SELECT ON documents TO app_late")
    tenant = role("tenant_3", "GRANT SELECT ON documents TO tenant_3")
    connection.execute(f"ALTER TABLE documents ENABLE ROW LEVEL SECURITY; {_POLICY}")
    for _ in range(2):
        with lab.opened(SMALL) as (own, stamps):
            mirror_access(own, stamps.source, "vecmig")
    assert _count(reader, "documents_vectors") == _count(reader, "documents_live") == 0
    assert tenant.execute("SELECT DISTINCT id FROM documents_vectors").fetchall() == [(3,)]
    connection.execute("DROP POLICY vecmig_as_source ON documents_vectors")
    with lab.opened(SMALL) as (own, stamps):
        mirror_access(own, stamps.source, "vecmig")
    assert tenant.execute("SELECT DISTINCT id FROM documents_vectors").fetchall() == [(3,)]
