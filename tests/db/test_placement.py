"""The vectors lie in a schema of their own, out of the way of the team's tools; older projects are moved there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from support.embedding import Model, vector
from support.lab import LARGE, SMALL, TINY, Lab
from support.postgres import Connect, roles
from vecmig import runner
from vecmig.errors import LockHeld
from vecmig.postgres.locks import runner_locks

Connection = psycopg.Connection[Any]

_LIES = """
SELECT c.relnamespace::regnamespace::text, count(*)
FROM pg_class c
WHERE c.relname LIKE 'documents\\_vectors%%' AND c.relkind IN ('r', 'p', 'i', 'I')
GROUP BY 1
"""


def _places(connection: Connection) -> set[str]:
    return {schema for schema, _ in connection.execute(_LIES)}


def _set(lab: Lab, line: str) -> None:
    ini = lab.path / "vecmig.ini"
    ini.write_text(f"{ini.read_text()}\n{line}\n")


@pytest.fixture
def tenant(connection: Connection, connect: Connect) -> Iterator[Connection]:
    """A role that may read the source."""
    with roles(connection, "tenant_3"):
        connection.execute("GRANT SELECT ON documents TO tenant_3")
        yield connect(user="tenant_3", options="-c search_path=public")


@pytest.fixture
def older(lab: Lab, connection: Connection) -> Lab:
    """A project as an earlier version made it: the vectors are beside the source, and the ledger does not say where."""
    _set(lab, "vectors_schema = public")
    lab.upgrade("r1")
    connection.execute("UPDATE vecmig.collection SET vectors_schema = NULL")
    lab.write()
    assert _places(connection) == {"public"}
    return lab


def test_vectors_lie_in_vecmigs_own_schema(lab: Lab, connection: Connection, tenant: Connection) -> None:
    lab.upgrade()
    assert _places(connection) == {"vecmig"}
    query = str(vector("title 3\n\nbody 3", 256).tolist())
    assert tenant.execute("SELECT count(*) FROM documents_live").fetchone() == (20,)
    assert tenant.execute("SELECT id FROM documents_search(%s::vector, 1)", [query]).fetchall() == [(3,)]
    assert tenant.execute("SELECT count(*) FROM vecmig.documents_vectors").fetchone() == (40,)


def test_another_schema_is_made_where_it_is_not_there(lab: Lab, connection: Connection, tenant: Connection) -> None:
    _set(lab, "vectors_schema = Näher dran")
    lab.upgrade()
    assert _places(connection) == {'"Näher dran"'}
    query = str(vector("title 3\n\nbody 3", 256).tolist())
    assert tenant.execute("SELECT id FROM documents_search(%s::vector, 1)", [query]).fetchall() == [(3,)]
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 1; DELETE FROM documents WHERE id = 2")
    lab.sync()
    assert lab.cover(LARGE).share == lab.cover(SMALL).share == 1.0
    assert [f for f in runner.audit(lab.config).findings if f.severity == "error"] == []


def test_an_older_project_goes_on_where_it_is(older: Lab, connection: Connection) -> None:
    """A new tag gets its partition beside the others; nothing is moved but by the command that says so."""
    assert older.upgrade() == ["live"]
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 1")
    older.sync()
    assert older.downgrade() == ["r2"]
    assert older.upgrade() == ["live"]
    assert _places(connection) == {"public"}
    assert older.cover(SMALL).share == older.cover(LARGE).share == 1.0


def test_ensure_version_moves_an_older_project(
    older: Lab, connection: Connection, tenant: Connection, model: Model
) -> None:
    older.upgrade()
    older.write(chain=(SMALL, LARGE, TINY)).upgrade(until="backfill")
    connection.execute("GRANT SELECT ON documents_live TO PUBLIC")
    before, query = model.total(), str(vector("title 3\n\nbody 3", 256).tolist())
    with older.reader() as reader:
        assert [hit.key for hit in reader.search("documents", "title 3\n\nbody 3", 1)] == [(3,)]
        runner.ensure_version(older.config)
        # it asks once more by itself where the vectors are not where they were
        assert [hit.key for hit in reader.search("documents", "title 3\n\nbody 3", 1)] == [(3,)]
    assert _places(connection) == {"vecmig"}
    assert tenant.execute("SELECT count(*) FROM documents_live").fetchone() == (20,)
    assert tenant.execute("SELECT id FROM documents_search(%s::vector, 1)", [query]).fetchall() == [(3,)]
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 1; DELETE FROM documents WHERE id = 2")
    assert connection.execute("SELECT count(*) FROM documents_vectors WHERE id = 2").fetchone() == (0,)
    lab = older.write(chain=(SMALL, LARGE, TINY))
    lab.sync()
    assert lab.upgrade() == ["live"]
    assert lab.cover(TINY).share == lab.cover(LARGE).share == 1.0
    assert model.total() - before <= 5
    assert lab.downgrade() == ["r3"]
    assert _places(connection) == {"vecmig"}
    kinds = connection.execute("SELECT kind, data FROM vecmig.event WHERE kind = 'move'").fetchall()
    assert kinds == [("move", {"from": "public", "to": "vecmig"})]
    runner.ensure_version(lab.config)
    assert [f for f in runner.audit(lab.config).findings if f.severity == "error"] == []


def test_who_was_granted_on_the_vectors_by_hand_still_finds_them(
    older: Lab, connection: Connection, tenant: Connection
) -> None:
    """The search function names them, and runs with the rights of who asks."""
    connection.execute("REVOKE SELECT ON documents FROM PUBLIC, tenant_3")
    connection.execute("GRANT SELECT (id, title, body) ON documents TO tenant_3")
    older.upgrade()
    connection.execute("GRANT SELECT ON documents_vectors, documents_live TO tenant_3")
    query = str(vector("title 3\n\nbody 3", 256).tolist())
    search = "SELECT id FROM documents_search(%s::vector, 1)"
    assert tenant.execute(search, [query]).fetchall() == [(3,)]
    runner.ensure_version(older.config)
    assert _places(connection) == {"vecmig"}
    assert tenant.execute(search, [query]).fetchall() == [(3,)]


def test_nothing_is_moved_beside_a_run(older: Lab, connection: Connection) -> None:
    with runner_locks(older.database, ["documents"], what="sync", kind="sync"), pytest.raises(LockHeld):
        runner.ensure_version(older.config)
    assert _places(connection) == {"public"}


@pytest.mark.upgraded
def test_a_ledger_that_is_called_otherwise_still_knows_where_vectors_lie(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER SCHEMA vecmig RENAME TO moved")
    _set(lab, "schema = moved")
    runner.ensure_version(lab.config)
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 1; DELETE FROM documents WHERE id = 2")
    lab.sync()
    assert connection.execute("SELECT count(*) FROM moved.documents_vectors").fetchone() == (38,)
