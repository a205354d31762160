"""The live view steps aside for a migration of its source, and comes back with its grants; no change is missed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from support.lab import LARGE, SMALL, Lab
from support.postgres import Connect, roles
from vecmig import runner
from vecmig.errors import DatabaseError, UsageError
from vecmig.events import Warned

Connection = psycopg.Connection[Any]


@pytest.fixture
def web(connection: Connection) -> Iterator[str]:
    """A role that may read the live view, by the team's own grant."""
    with roles(connection, "detach_web"):
        yield "detach_web"


def _detach(lab: Lab) -> bool:
    return runner.detach_view(lab.config, "documents")[1]


def _attach(lab: Lab) -> bool:
    return runner.attach_view(lab.config, "documents")


def _is_there(lab: Lab) -> bool:
    return bool(lab.sql("SELECT to_regclass('documents_live') IS NOT NULL")[0][0])


def _may_read(lab: Lab, role: str) -> bool:
    return bool(lab.sql("SELECT has_table_privilege(%s, 'documents_live', 'SELECT')", role)[0][0])


def _condition(lab: Lab) -> str | None:
    rows = lab.sql(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger"
        " WHERE tgname = 'vecmig_documents_track_update' AND tgqual IS NOT NULL"
    )
    return rows[0][0] if rows else None


@pytest.mark.upgraded("r1")
def test_a_column_of_the_text_is_altered_between_them(lab: Lab, web: str) -> None:
    """It is bound twice, by the view and by the condition of a trigger; what changes meanwhile is embedded."""
    lab.sql(f"GRANT SELECT ON documents_live TO {web}")
    before = _condition(lab)
    with pytest.raises(pg.FeatureNotSupported):
        lab.sql("ALTER TABLE documents ALTER COLUMN body TYPE varchar(400)")
    assert _detach(lab)
    lab.sql("UPDATE documents SET body = 'changed before' WHERE id = 1")
    lab.sql("ALTER TABLE documents ALTER COLUMN body TYPE varchar(400)")
    lab.sql("UPDATE documents SET body = 'changed after' WHERE id = 2")
    lab.sql("INSERT INTO documents VALUES (21, 'new', 'new')")
    lab.sql("DELETE FROM documents WHERE id = 3")
    assert lab.status().outbox.records == 3
    assert _attach(lab)
    assert _condition(lab) == before is not None
    assert _may_read(lab, web)
    lab.sync()
    assert lab.cover(SMALL).share == 1.0
    assert lab.sql("SELECT count(*) FROM documents_live") == [(20,)]


@pytest.mark.parametrize("attach", ["vecmig", "SQL"])
@pytest.mark.upgraded("r1")
def test_texts_that_the_migration_changed_are_embedded_by_the_next_sync(lab: Lab, attach: str) -> None:
    """A column's type is altered without a trigger."""
    _detach(lab)
    lab.sql("ALTER TABLE documents ALTER COLUMN body TYPE varchar(400) USING upper(body)")
    assert _attach(lab) if attach == "vecmig" else lab.sql("SELECT vecmig.view_attach('documents')")
    assert lab.cover(SMALL).share == 0
    assert not runner.status(lab.config).settled
    lab.sync()
    assert lab.cover(SMALL).share == 1.0
    assert runner.status(lab.config).next_command != "vecmig sync"


@pytest.mark.upgraded("r1")
def test_the_search_goes_on_meanwhile(lab: Lab) -> None:
    _detach(lab)
    assert not _is_there(lab)
    vector = lab.sql("SELECT embedding::text FROM documents_vectors WHERE id = 7")[0][0]
    assert lab.sql(f"SELECT id FROM documents_search('{vector}', 1)") == [(7,)]
    with lab.reader() as reader:
        assert reader.search("documents", "title 7", 1)


@pytest.mark.upgraded("r1")
def test_nothing_that_runs_meanwhile_puts_it_back(lab: Lab) -> None:
    """Not a sync, not an upgrade through a cutover, not a rollback; attach then reads the tag that is live."""
    _detach(lab)
    lab.sync()
    assert any(isinstance(event, Warned) and "vecmig view attach documents" in event.message for event in lab.events)
    lab.upgrade()
    assert lab.live == LARGE
    assert not _is_there(lab)
    assert _condition(lab) is None
    lab.downgrade()
    assert lab.live == SMALL
    lab.upgrade()
    assert not _is_there(lab)
    assert _attach(lab)
    assert lab.sql("SELECT DISTINCT tag FROM documents_live") == [(LARGE,)]
    assert _condition(lab) is not None


@pytest.mark.upgraded
def test_status_and_audit_say_so_first(lab: Lab) -> None:
    _detach(lab)
    found = runner.status(lab.config)
    assert found.next_command == "vecmig view attach documents"
    assert not found.settled
    (collection,) = found.collections
    assert collection.detached is not None
    assert collection.detached.by == "postgres"
    assert collection.problem is None
    (finding,) = [f for f in runner.audit(lab.config).findings if f.kind == "live view"]
    assert finding.fix == "vecmig view attach documents"
    _attach(lab)
    lab.sync()
    assert runner.status(lab.config).settled


@pytest.mark.upgraded("r1")
def test_both_may_be_repeated(lab: Lab) -> None:
    assert not _attach(lab)
    assert _detach(lab)
    assert not _detach(lab)
    assert _attach(lab)
    assert not _attach(lab)
    kinds = lab.sql("SELECT kind FROM vecmig.event WHERE kind LIKE 'view%' ORDER BY id")
    assert kinds == [("view_detach",), ("view_attach",)]


@pytest.mark.upgraded("r1")
def test_a_renamed_column_is_followed_by_collections_yaml(lab: Lab, web: str) -> None:
    lab.sql(f"GRANT SELECT (title) ON documents_live TO {web}")
    _detach(lab)
    lab.sql("ALTER TABLE documents RENAME COLUMN body TO content")
    changed = lab.write(text="title || E'\\n\\n' || content")
    assert _attach(changed)
    assert changed.status().problem is None
    assert lab.sql("SELECT content FROM documents_live WHERE id = 1") == [("body 1",)]
    assert lab.sql("SELECT has_column_privilege(%s, 'documents_live', 'title', 'SELECT')", web) == [(True,)]
    changed.sql("UPDATE documents SET content = 'changed' WHERE id = 1")
    changed.sync()
    assert changed.cover(SMALL).share == 1.0


@pytest.mark.upgraded("r1")
def test_what_hangs_on_the_view_is_named(lab: Lab) -> None:
    lab.sql("CREATE VIEW report AS SELECT id FROM documents_live")
    with pytest.raises(DatabaseError, match=r"view public\.report depends on view public\.documents_live") as refused:
        _detach(lab)
    assert refused.value.state == "Nothing was changed."
    assert _is_there(lab)
    assert _condition(lab) is not None
    assert lab.status().detached is None


@pytest.mark.upgraded("r1")
def test_an_always_enabled_trigger_stays_so(lab: Lab) -> None:
    lab.sql("ALTER TABLE documents ENABLE ALWAYS TRIGGER vecmig_documents_track_update")
    query = "SELECT tgenabled FROM pg_trigger WHERE tgname = 'vecmig_documents_track_update'"
    _detach(lab)
    assert lab.sql(query) == [("A",)]
    lab.sql("SELECT vecmig.view_attach('documents')")
    assert lab.sql(query) == [("A",)]


def test_a_collection_without_a_tag_has_no_view(lab: Lab) -> None:
    with pytest.raises(UsageError, match="no tag yet"):
        _detach(lab)


# In a migration's own transaction ------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1")
def test_sql_alone_does_both_in_one_transaction(lab: Lab, web: str, connect: Connect) -> None:
    """For tools that run files of SQL; another session sees the view at every moment."""
    lab.sql(f"GRANT SELECT ON documents_live TO {web}; COMMENT ON VIEW documents_live IS 'for the web'")
    before = _condition(lab)
    with connect(autocommit=False) as migration:
        migration.execute("SELECT vecmig.view_detach('documents')")
        migration.execute("ALTER TABLE documents ALTER COLUMN title TYPE varchar(400)")
        migration.execute("SELECT vecmig.view_attach('documents')")
    assert _may_read(lab, web)
    assert _condition(lab) == before
    assert lab.sql("SELECT obj_description('documents_live'::regclass)") == [("for the web",)]
    assert lab.sql("SELECT count(*) FROM documents_live") == [(20,)]
    assert runner.status(lab.config).collections[0].detached is None


@pytest.mark.upgraded("r1")
def test_a_migration_that_is_rolled_back_leaves_all_as_it_was(lab: Lab, connect: Connect) -> None:
    migration = connect(autocommit=False)
    migration.execute("SELECT vecmig.view_detach('documents')")
    migration.rollback()
    assert _is_there(lab)
    assert lab.status().detached is None


@pytest.mark.upgraded("r1")
def test_sql_that_cannot_put_it_back_leaves_that_to_vecmig(lab: Lab, connect: Connect) -> None:
    """The migration goes through; only who knows collections.yaml can make the view of the new columns."""
    notices: list[str] = []
    migration = connect(autocommit=False)
    migration.add_notice_handler(lambda notice: notices.append(f"{notice.message_primary} {notice.message_hint}"))
    migration.execute("SELECT vecmig.view_detach('documents')")
    migration.execute("ALTER TABLE documents RENAME COLUMN body TO content")
    assert migration.execute("SELECT vecmig.view_attach('documents')").fetchone() == (False,)
    migration.commit()
    assert "stays detached" in notices[-1]
    assert "Run: vecmig view attach documents" in notices[-1]
    changed = lab.write(text="title || E'\\n\\n' || content")
    assert _attach(changed)
    assert changed.status().problem is None


def test_names_that_need_quotes(bare_lab: Lab, connection: Connection) -> None:
    connection.execute('CREATE TABLE public."My Docs" ("The Id" bigint PRIMARY KEY, "it\'s" text)')
    connection.execute("""INSERT INTO "My Docs" SELECT n, 'text ' || n FROM generate_series(1, 5) n""")
    lab = bare_lab.write(name="my docs-1", source='"My Docs"', key=["The Id"], text='"it\'s"')
    lab.upgrade("r1")
    assert runner.detach_view(lab.config, "my docs-1")[1]
    lab.sql("""ALTER TABLE "My Docs" ALTER COLUMN "it's" TYPE varchar(40)""")
    lab.sql("SELECT vecmig.view_attach('my docs-1')")
    assert lab.sql('SELECT count(*) FROM "my docs-1_live"') == [(5,)]
    assert lab.status().detached is None
