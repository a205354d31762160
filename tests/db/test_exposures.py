"""Where the source is protected better than its vectors, or read by fewer, status says so first and a sync follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from support.lab import LARGE, Lab
from support.postgres import Connect, roles
from vecmig import runner
from vecmig.errors import DatabaseError
from vecmig.events import Noted
from vecmig.inventory.exposure import exposures

Connection = psycopg.Connection[Any]

_POLICY = "CREATE POLICY mine ON documents USING (id = 3)"
_PROTECTED = f"ALTER TABLE documents ENABLE ROW LEVEL SECURITY; {_POLICY}"

pytestmark = pytest.mark.upgraded


@pytest.fixture
def readers(connection: Connection) -> Iterator[None]:
    """Readers of the application, and one that all may be granted to."""
    with roles(connection, "web", "reporting", "anon"):
        yield


@pytest.fixture
def live(lab: Lab, connection: Connection, readers: None) -> Lab:
    """A live collection that web reads."""
    connection.execute("GRANT SELECT ON documents TO web")
    lab.sync()
    assert lab.status().problem is None
    return lab


def _said(lab: Lab) -> str:
    """What status says of the collection, which is pending with a next step."""
    found = runner.status(lab.config)
    assert not found.settled
    assert found.next_command == "vecmig sync"
    ((_, problem),) = found.problems
    assert isinstance(problem, DatabaseError)
    assert problem.hint == "Run: vecmig sync"
    return problem.message


def _require_mended(lab: Lab) -> None:
    assert lab.status().problem is None
    assert runner.status(lab.config).next_command is None
    with lab.database.session() as own:
        assert exposures(own, lab.inspected(), "vecmig") == []


def _part(lab: Lab, tag: str = LARGE) -> str:
    return lab.stamps(tag).relation.as_string(None)


#: What somebody does, and what status says of it.
DONE: dict[str, tuple[str, str]] = {
    "row security at the source": (
        _PROTECTED,
        "Of documents, the vectors have no row-level security, and public.documents has it.",
    ),
    "a reader who lost the right": (
        "REVOKE SELECT ON documents FROM web",
        "Of documents, web may read the vectors and the live view, and public.documents no more.",
    ),
    "a reader of some columns only": (
        "REVOKE SELECT ON documents FROM web; GRANT SELECT (id, title) ON documents TO web",
        "Of documents, web may read the vectors and the live view, and public.documents no more.",
    ),
    "a new reader": (
        "GRANT SELECT ON documents TO reporting",
        "Of documents, reporting may read public.documents, and not the vectors and the live view.",
    ),
    "row security on the vectors": (
        "ALTER TABLE documents_vectors ENABLE ROW LEVEL SECURITY",
        "Of documents, the vectors have row-level security, and public.documents has none.",
    ),
    "a right by default privileges": (
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon; GRANT DELETE, SELECT ON documents_vectors TO anon",
        "Of documents, default privileges have opened vecmig.documents_vectors to anon.",
    ),
    "a right on vecmig's own by default privileges": (
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon; GRANT INSERT ON vecmig.event, vecmig.tag TO anon",
        "Of documents, default privileges have opened vecmig.event, vecmig.tag to anon.",
    ),
}


@pytest.mark.parametrize("what", list(DONE))
@pytest.mark.parametrize("command", ["sync", "upgrade"])
def test_it_is_said_first_and_mended_by_the_next_command(
    live: Lab, connection: Connection, what: str, command: str
) -> None:
    statement, message = DONE[what]
    connection.execute(statement)
    assert _said(live) == message
    live.events.clear()
    runner.sync(live.config, listener=live.listen) if command == "sync" else live.upgrade()
    detail = message.removeprefix("Of documents, ").removesuffix(".")
    assert [one.message for one in live.events if isinstance(one, Noted)] == [f"documents: {detail}: made good"]
    _require_mended(live)


def test_what_the_source_no_longer_protects_is_no_longer_protected(live: Lab, connection: Connection) -> None:
    connection.execute(_PROTECTED)
    live.sync()
    connection.execute("ALTER TABLE documents DISABLE ROW LEVEL SECURITY")
    assert _said(live) == "Of documents, the vectors have row-level security, and public.documents has none."
    live.upgrade()
    _require_mended(live)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "ALTER TABLE {part} DISABLE ROW LEVEL SECURITY",
            "1 partition has no row-level security, and public.documents has it",
        ),
        (
            "DROP POLICY vecmig_as_source ON documents_vectors",
            "the vectors have lost the policy that follows the source's",
        ),
        ("GRANT SELECT ON {part} TO anon", "anon has rights on {part}, past the vectors table"),
        ("GRANT SELECT (chunk_text) ON {part} TO anon", "anon has rights on {part}, past the vectors table"),
    ],
    ids=["a partition", "the policy", "a right on a partition", "a right on a column of one"],
)
def test_a_protection_that_was_taken_away_is_said_and_put_back(
    live: Lab, connection: Connection, statement: str, message: str
) -> None:
    connection.execute(_PROTECTED)
    live.sync()
    part = _part(live).replace('"', "")
    connection.execute(statement.format(part=part))
    assert _said(live) == f"Of documents, {message.format(part=part)}."
    live.sync()
    _require_mended(live)


def test_who_lost_the_right_to_read_the_source_reads_no_vectors(
    live: Lab, connection: Connection, connect: Connect
) -> None:
    connection.execute("GRANT SELECT ON documents TO PUBLIC")
    live.sync()
    connection.execute("REVOKE SELECT ON documents FROM PUBLIC")
    live.sync()
    with connect(user="anon") as anon, pytest.raises(psycopg.errors.InsufficientPrivilege):
        anon.execute("SELECT FROM documents_vectors")
    with connect(user="web") as web:
        assert web.execute("SELECT count(*) FROM documents_vectors WHERE tag = %s", [LARGE]).fetchone() == (20,)
    connection.execute("REVOKE SELECT ON documents FROM web")
    live.sync()
    with connect(user="web") as web, pytest.raises(psycopg.errors.InsufficientPrivilege):
        web.execute("SELECT FROM documents_vectors")


def _reads(connection: Connection, role: str, relation: str = "documents_vectors") -> bool:
    row = connection.execute("SELECT has_table_privilege(%s, %s, 'SELECT')", [role, relation]).fetchone()
    return bool(row and row[0])


def test_what_a_person_granted_by_hand_stays(live: Lab, connection: Connection) -> None:
    """An audit names it; nobody else knows what it is for."""
    connection.execute("GRANT SELECT ON documents_vectors, documents_live TO reporting, anon WITH GRANT OPTION")
    connection.execute("GRANT SELECT ON documents TO reporting")
    live.sync()
    connection.execute("REVOKE SELECT ON documents FROM reporting")
    live.sync()
    runner.ensure_version(live.config)
    live.upgrade()
    for role in ("reporting", "anon"):
        for relation in ("documents_vectors", "documents_live"):
            assert _reads(connection, role, relation)
    assert {one.object for one in runner.audit(live.config).findings if one.kind == "open vectors"} == {
        "reporting",
        "anon",
    }
    assert live.status().problem is None


def test_an_audit_names_rights_on_single_columns(live: Lab, connection: Connection) -> None:
    connection.execute("GRANT SELECT (id, chunk_text) ON documents_vectors TO anon")
    (found,) = [one for one in runner.audit(live.config).findings if one.kind == "open vectors"]
    assert found.object == "anon"
    assert found.fix == "REVOKE SELECT ON vecmig.documents_vectors FROM anon;"
    connection.execute(found.fix)
    assert [one for one in runner.audit(live.config).findings if one.kind == "open vectors"] == []


def test_a_right_that_went_does_not_come_back_with_the_view(live: Lab, connection: Connection) -> None:
    connection.execute("REVOKE SELECT ON documents FROM web; DROP VIEW documents_live")
    live.sync()
    assert not _reads(connection, "web", "documents_live")
    connection.execute("DROP VIEW documents_live")
    live.sync()
    assert not _reads(connection, "web", "documents_live")
    connection.execute("GRANT SELECT ON documents TO web")
    live.sync()
    assert _reads(connection, "web", "documents_live")


@pytest.mark.parametrize("by", ["live_columns", "view attach", "view_attach in SQL"])
def test_a_right_that_went_does_not_come_back_with_what_belonged_to_the_view(
    live: Lab, connection: Connection, by: str
) -> None:
    lab = live.write(options={"live_columns": "all"})
    lab.sync()
    if by != "live_columns":
        runner.detach_view(lab.config, "documents")
    connection.execute("REVOKE SELECT ON documents FROM web")
    if by == "live_columns":
        lab = lab.write(options={"live_columns": ["title"]})
    elif by == "view attach":
        runner.attach_view(lab.config, "documents")
        assert not _reads(connection, "web", "documents_live")
    else:
        connection.execute("SELECT vecmig.view_attach('documents')")
    lab.sync()
    assert not _reads(connection, "web", "documents_live")
    assert not _reads(connection, "web")
    connection.execute("GRANT SELECT ON documents_live, documents_vectors TO web")
    lab.sync()
    assert _reads(connection, "web", "documents_live")
    assert _reads(connection, "web")


def test_a_role_that_was_renamed_is_still_the_same(live: Lab, connection: Connection) -> None:
    connection.execute("ALTER ROLE web RENAME TO app")
    try:
        live.sync()
        assert live.status().problem is None
        connection.execute("REVOKE SELECT ON documents FROM app")
        assert _said(live) == "Of documents, app may read the vectors and the live view, and public.documents no more."
        live.sync()
        assert not _reads(connection, "app")
    finally:
        connection.execute("ALTER ROLE app RENAME TO web")


def test_a_role_that_was_renamed_and_lost_its_right_is_followed(live: Lab, connection: Connection) -> None:
    connection.execute("ALTER ROLE web RENAME TO app; REVOKE SELECT ON documents FROM app")
    try:
        assert _said(live) == "Of documents, app may read the vectors and the live view, and public.documents no more."
        live.sync()
        assert not _reads(connection, "app")
    finally:
        connection.execute("ALTER ROLE app RENAME TO web")


def test_a_project_of_an_earlier_version_takes_the_sources_readers_for_its_own_doing(
    live: Lab, connection: Connection
) -> None:
    connection.execute("UPDATE vecmig.collection SET mirrored = NULL, live_view = NULL")
    assert live.status().problem is None
    runner.ensure_version(live.config)
    connection.execute("REVOKE SELECT ON documents FROM web")
    assert _said(live).startswith("Of documents, web may read the vectors")
    live.sync()
    assert not _reads(connection, "web")


def test_status_reads_a_ledger_that_is_older(live: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE vecmig.collection DROP COLUMN mirrored, DROP COLUMN live_view")
    connection.execute("DROP FUNCTION vecmig.track_rest() CASCADE; DROP TRIGGER kept ON vecmig.event")
    connection.execute("DROP TABLE vecmig.learned_limit")
    connection.execute("ALTER TABLE vecmig.tag DROP COLUMN home, ADD COLUMN partition text NOT NULL DEFAULT ''")
    connection.execute(
        "ALTER TABLE vecmig.revision DROP COLUMN held_at, DROP COLUMN held_by, DROP COLUMN hold_reason, "
        "DROP COLUMN index_before"
    )
    connection.execute(
        "ALTER TABLE vecmig.tag DROP COLUMN adopted, DROP COLUMN verified, DROP COLUMN index, DROP COLUMN recall"
    )
    connection.execute("ALTER TABLE vecmig.change DROP COLUMN vector_changed_in, DROP COLUMN text_changed_by")
    connection.execute("DROP TABLE vecmig.superseded, vecmig.fill, vecmig.batch_order, vecmig.last_full_pass")
    connection.execute("ALTER TABLE vecmig.run DROP COLUMN ends_at, ADD CONSTRAINT run_what_check CHECK (what <> '')")
    connection.execute("DELETE FROM vecmig.schema_version WHERE version >= 9")
    assert "the triggers on the source are not as this vecmig makes them" in str(live.status().problem)
    connection.execute(_PROTECTED)
    assert _said(live).startswith(DONE["row security at the source"][1].removesuffix("."))
    live.sync()
    _require_mended(live)


# Grants on the live view that default privileges gave ----------------------------------------------------------------


def _granted(connection: Connection, role: str) -> set[str]:
    query = (
        "SELECT a.privilege_type FROM pg_class c, aclexplode(c.relacl) a "
        "WHERE c.oid = 'documents_live'::regclass AND a.grantee = %s::regrole"
    )
    return {word for (word,) in connection.execute(query, [role])}


@pytest.fixture
def first_version(live: Lab, connection: Connection) -> Lab:
    """A live view with all that it was born with, as the first version left it, and with what a team granted."""
    connection.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, web")
    connection.execute("UPDATE vecmig.collection SET mirrored = NULL, live_grants = NULL, live_view = NULL")
    connection.execute("GRANT ALL ON documents_live TO anon, web; GRANT SELECT, UPDATE ON documents_live TO reporting")
    return live


_MEND: dict[str, Callable[[Lab], object]] = {
    "ensure_version": lambda lab: runner.ensure_version(lab.config, listener=lab.listen),
    "sync": lambda lab: runner.sync(lab.config, listener=lab.listen),
    "upgrade": lambda lab: lab.upgrade(),
}


@pytest.mark.parametrize("command", list(_MEND))
def test_what_the_live_view_was_born_with_goes_and_what_a_team_granted_stays(
    first_version: Lab, connection: Connection, command: str
) -> None:
    lab = first_version
    said = "Of documents, default privileges have opened public.documents_live to "
    assert _said(lab) == f"{said}anon; default privileges have opened public.documents_live to web."
    lab.events.clear()
    _MEND[command](lab)
    (told,) = [one.message for one in lab.events if isinstance(one, Noted)]
    assert told.startswith("documents: default privileges have opened public.documents_live to anon; ")
    assert _granted(connection, "anon") == set()
    assert _granted(connection, "web") == {"SELECT"}
    assert _granted(connection, "reporting") == {"SELECT", "UPDATE"}
    _require_mended(lab)


def test_what_a_team_grants_later_stays_though_default_privileges_would_give_it(
    first_version: Lab, connection: Connection
) -> None:
    runner.ensure_version(first_version.config)
    connection.execute("GRANT SELECT, TRIGGER ON documents_live TO anon")
    for _ in range(2):
        first_version.sync()
        runner.ensure_version(first_version.config)
    first_version.downgrade()
    first_version.upgrade()
    assert _granted(connection, "anon") == {"SELECT", "TRIGGER"}
    connection.execute("DROP VIEW documents_live")
    first_version.sync()
    assert _granted(connection, "anon") == {"SELECT", "TRIGGER"}
