"""Somebody holds the table for himself: each command says who, gives up after lock_wait, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from support.cli import (
    Vecmig,
    describe,
    documents_collection,
    local,
    make_documents,
    script,
    tag,
    write_hashing,
)
from support.postgres import Connect
from support.project import Project

A, B = tag("hashing", 16), tag("hashing", 32)
#: Each command that reads the source, or changes it.
COMMANDS = (
    ("status",),
    ("plan",),
    ("gate",),
    ("audit",),
    ("search", "documents", "title 7", "--tag", A),
    ("eval", "known"),
    ("eval", "--make", "known-item", "--title", "title"),
    ("sync",),
    ("backfill",),
    ("upgrade",),
)


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 20)
    write_hashing(project, 16, 32)
    describe(project, {"documents": documents_collection(B)}, {A: local(16), B: local(32)})
    script(project, "aaaa", A)
    script(project, "bbbb", B, old=A, down="aaaa")
    vecmig("upgrade", "aaaa")
    vecmig("upgrade", "--until", "backfill")
    evals = project.path / "evals"
    evals.mkdir()
    (evals / "known.yaml").write_text("collection: documents\nqueries:\n  - {query: title 7, relevant: [7]}\n")
    project.sql("UPDATE documents SET title = 'title seven' WHERE id = 7")


#: What ``halfway`` stands on.
BEGINNINGS = {"halfway": _prepare}


@pytest.fixture
def halfway(project: Project) -> Project:
    """A project with one live tag and one on its way, an edit that waits, and a suite of questions."""
    return project


@pytest.fixture
def holder(halfway: Project, connect: Connect) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A session that keeps everybody from the source, in a transaction that it has forgotten."""
    session = connect(halfway.database_url, autocommit=False, application_name="forgotten")
    session.execute("LOCK TABLE documents IN ACCESS EXCLUSIVE MODE")
    yield session
    session.rollback()


def test_each_command_says_who_holds_the_table_and_gives_up(
    halfway: Project,
    holder: psycopg.Connection[tuple[object, ...]],
    vecmig: Vecmig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VECMIG_LOCK_WAIT", "0.6")
    who = f"pid {holder.info.backend_pid} (postgres, forgotten, idle in transaction, transaction open for "
    silent = {}
    for command in COMMANDS:
        said = vecmig(*command, code=None)
        if said.code != 1 or said.stderr.count(who) < 2:
            silent[command] = (said.code, said.stderr)
        else:
            assert (
                f"waiting: a lock on public.documents is held by {who}" in said.stderr or "is taken by" in said.stderr
            )
            assert "SELECT pg_terminate_backend(" in said.stderr
    assert silent == {}
    # what does not need the source goes on
    assert vecmig("rejected").stderr == ""
    assert "bbbb" in vecmig("history").stdout
    assert halfway.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    holder.rollback()
    vecmig("sync")
    vecmig("upgrade")
    assert halfway.sql("SELECT DISTINCT tag FROM documents_live") == [(B,)]
    holder.execute("LOCK TABLE documents IN ACCESS EXCLUSIVE MODE")
    assert vecmig("downgrade", "-1", code=1).stderr.count(who) >= 2


def test_a_quiet_command_says_it_at_its_end(
    halfway: Project,
    holder: psycopg.Connection[tuple[object, ...]],
    vecmig: Vecmig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VECMIG_LOCK_WAIT", "0.6")
    said = vecmig("-q", "status", code=1).stderr
    assert said.startswith(
        f"Could not acquire a lock in time: a lock on public.documents is held by pid {holder.info.backend_pid}"
    )
    assert "waiting" not in said
    assert "aaaa" in vecmig("current").stdout, "what asks only the ledger does not wait"


def test_a_row_that_is_held_keeps_no_reader_waiting(halfway: Project, connect: Connect, vecmig: Vecmig) -> None:
    session = connect(halfway.database_url, autocommit=False)
    session.execute("SELECT FROM documents FOR UPDATE")
    assert "waiting:" not in vecmig("status").stderr
    session.rollback()


def test_who_holds_the_vectors_or_the_ledger_is_said_too(
    halfway: Project, connect: Connect, vecmig: Vecmig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECMIG_LOCK_WAIT", "0.6")
    session = connect(halfway.database_url, autocommit=False, application_name="forgotten")
    session.execute("LOCK TABLE vecmig.documents_vectors IN ACCESS EXCLUSIVE MODE")
    who = f"pid {session.info.backend_pid} (postgres, forgotten, idle in transaction, transaction open for "
    searching = ("search", "documents", "title 7")
    said = {command: vecmig(*command, code=1).stderr for command in (searching, (*searching, "--tag", A), ("status",))}
    session.rollback()
    assert "title seven" in vecmig(*searching).stdout
    session.execute("LOCK TABLE vecmig.collection IN ACCESS EXCLUSIVE MODE")
    said |= {command: vecmig(*command, code=1).stderr for command in (("ensure_version",), ("sync",))}
    assert {command: text for command, text in said.items() if text.count(who) < 2} == {}


def test_an_index_build_gives_up_and_the_next_upgrade_builds_it(
    halfway: Project, connect: Connect, vecmig: Vecmig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECMIG_LOCK_WAIT", "0.6")
    session = connect(halfway.database_url, autocommit=False, application_name="forgotten")
    session.execute("UPDATE vecmig.documents_vectors SET chunk_text = 'x' WHERE tag = %s AND id = 3", [B])
    who = f"pid {session.info.backend_pid} (postgres, forgotten, idle in transaction, transaction open for "
    message, state, hint = vecmig("upgrade", code=1).stderr.splitlines()[-3:]
    assert message.startswith(
        f"The index of {B} is not built: it waited 0.6 s for writers before build. Blocked by {who}"
    )
    assert state == "The vectors are all there; the index is invalid, and the next build replaces it."
    assert "pg_terminate_backend(pid); then run this again." in hint
    (found,) = (one for one in vecmig("status", "--json").json["collections"][0]["tags"] if one["tag"] == B)
    assert found["index"] == "invalid"
    session.rollback()
    vecmig("sync")
    vecmig("upgrade")
    assert halfway.sql("SELECT DISTINCT tag FROM documents_live") == [(B,)]
