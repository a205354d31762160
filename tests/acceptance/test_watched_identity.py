"""What ``sync --watch`` does when a source gets another name, is gone, or another table gets its name."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
from support.project import Project
from support.stamps import text_hash
from support.waiting import wait_for

A = tag("a", 16)
B = tag("b", 8)
IDLE = "SELECT count(*) FROM vecmig.run WHERE what = 'sync' AND reason LIKE '%; last full pass %'"
ADOPT = "vecmig adopt-source documents"
RELOAD = (
    "CREATE TABLE documents_new (LIKE documents INCLUDING ALL);"
    "INSERT INTO documents_new SELECT * FROM documents;"
    "INSERT INTO documents_new VALUES (100, 'title', 'a body of its own')"
)


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 20)
    project.sql("CREATE TABLE notes AS SELECT id, body FROM documents")
    project.sql("ALTER TABLE notes ADD PRIMARY KEY (id)")
    write_hashing(project, 16, 8)
    notes = {"source": "public.notes", "key": ["id"], "text": "body", "tag": B}
    describe(project, {"documents": documents_collection(A), "notes": notes}, {A: local(16), B: local(8)})
    script(project, "aaaa", A)
    script(project, "bbbb", B, down="aaaa", collection="notes")
    vecmig("upgrade")


#: What ``live`` stands on.
BEGINNINGS = {"live": _prepare}


@pytest.fixture
def live(project: Project) -> Project:
    """A project of two collections whose tags are live."""
    return project


class Watch:
    """The service at work, and what it has said so far."""

    def __init__(self, project: Project, process: subprocess.Popen[str]) -> None:
        self.project = project
        self.process = process
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)

    def until(self, query: str) -> None:
        """Wait until a query gives true; the service must not end before."""
        wait_for(lambda: self.project.sql(query) == [(True,)], self.process)

    def times(self, words: str) -> int:
        """How often it has said this."""
        while not self._lines.empty():
            self.said.append(self._lines.get())
        return sum(words in line for line in self.said)


@contextmanager
def watching(project: Project) -> Iterator[Watch]:
    """Run the service in the background, and wait until it has nothing to do."""
    with project.start("sync", "--watch", "--every", "0.1") as process:
        watch = Watch(project, process)
        try:
            wait_for(lambda: project.sql(IDLE) == [(2,)], process)
            yield watch
        finally:
            process.kill()


def fresh(table: str, key: str = "id") -> str:
    """Ask whether each record has a vector of its present text, and no change waits."""
    return (
        f"SELECT NOT EXISTS (SELECT FROM {table} d WHERE NOT EXISTS (SELECT FROM documents_live v WHERE v.id = d.{key} "
        "AND v.body = d.body)) AND NOT EXISTS (SELECT FROM vecmig.change)"
    )


def goes_on(watch: Watch, key: int) -> None:
    """The other collection is followed, which takes rounds of the service."""
    watch.project.sql(f"INSERT INTO notes VALUES ({key}, 'a note {key}')")
    watch.until(f"SELECT EXISTS (SELECT FROM notes_live WHERE id = {key})")


def test_a_renaming_is_followed_with_the_edits_after_it(live: Project) -> None:
    with watching(live) as watch:
        live.sql("ALTER TABLE documents RENAME TO posts; ALTER TABLE posts RENAME COLUMN id TO post_id")
        live.sql("INSERT INTO posts VALUES (100, 'title', 'a body of its own')")
        watch.until(fresh("posts", "post_id"))
        live.sql("CREATE SCHEMA app; ALTER TABLE posts SET SCHEMA app")
        live.sql("UPDATE app.posts SET body = 'another body' WHERE post_id = 100")
        watch.until(fresh("app.posts", "post_id"))
        live.sql("DROP FUNCTION documents_search")
        watch.until("SELECT to_regproc('documents_search') IS NOT NULL")
        goes_on(watch, 201)


def test_a_swapped_table_waits_for_a_person_and_the_others_go_on(live: Project, vecmig: Vecmig) -> None:
    with watching(live) as watch:
        live.sql(RELOAD)
        live.sql("ALTER TABLE documents RENAME TO documents_old; ALTER TABLE documents_new RENAME TO documents")
        wait_for(lambda: watch.times(ADOPT) == 1, watch.process)
        assert watch.times("public.documents is another table than the one whose vectors documents has") == 1
        live.sql("UPDATE documents_old SET body = 'edited meanwhile' WHERE id = 1")
        goes_on(watch, 201)
        vecmig("adopt-source", "documents")
        watch.until(fresh("documents"))
        live.sql("INSERT INTO documents VALUES (101, 'title', 'after the adoption')")
        watch.until(fresh("documents"))
        goes_on(watch, 202)
        assert watch.times(ADOPT) == 1


def test_a_table_that_is_swapped_back_is_taken_up_again(live: Project) -> None:
    """Two reloads, the second before anybody looked at the first: the table is the one that it was."""
    with watching(live) as watch:
        live.sql(RELOAD)
        live.sql("ALTER TABLE documents RENAME TO documents_old; ALTER TABLE documents_new RENAME TO documents")
        wait_for(lambda: watch.times(ADOPT) == 1, watch.process)
        live.sql("ALTER TABLE documents RENAME TO documents_new; ALTER TABLE documents_old RENAME TO documents")
        live.sql("UPDATE documents SET body = 'edited after it' WHERE id = 1")
        watch.until(fresh("documents"))


def test_a_service_that_begins_on_a_swapped_table_keeps_the_others(live: Project, vecmig: Vecmig) -> None:
    live.sql(RELOAD)
    live.sql("ALTER TABLE documents RENAME TO documents_old; ALTER TABLE documents_new RENAME TO documents")
    with live.start("sync", "--watch", "--every", "0.1") as process:
        watch = Watch(live, process)
        try:
            wait_for(lambda: watch.times(ADOPT) == 1, process)
            goes_on(watch, 201)
            vecmig("adopt-source", "documents")
            watch.until(fresh("documents"))
        finally:
            process.kill()


def test_a_table_that_is_gone_holds_up_no_other_and_may_come_back(live: Project, vecmig: Vecmig) -> None:
    with watching(live) as watch:
        live.sql("CREATE TABLE kept AS SELECT * FROM documents")
        live.sql("DROP TABLE documents CASCADE")
        gone = 'documents is left alone: Collection documents: the source "public"."documents" does not exist'
        wait_for(lambda: watch.times(gone) == 1, watch.process)
        goes_on(watch, 201)
        assert "last run  sync --watch failed" in vecmig("status", "documents").stdout
        # it was tried again meanwhile, without a word
        wait_for(lambda: live.sql("SELECT count(*) FROM vecmig.event WHERE kind = 'failed'") == [(1,)], watch.process)
        live.sql("CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)")
        live.sql("INSERT INTO documents SELECT * FROM kept; INSERT INTO documents VALUES (100, 'title', 'restored')")
        wait_for(lambda: watch.times(ADOPT) == 1, watch.process)
        vecmig("adopt-source", "documents")
        watch.until(fresh("documents"))
        wait_for(lambda: watch.times("documents goes on") == 1, watch.process)
        goes_on(watch, 202)
        assert watch.times(gone) == 1
        assert "failed" not in vecmig("status").stdout


def test_a_column_that_is_gone_holds_up_no_other_and_may_come_back(live: Project) -> None:
    with watching(live) as watch:
        live.sql("ALTER TABLE documents DROP COLUMN title CASCADE")
        wait_for(lambda: watch.times("documents is left alone: ") == 1, watch.process)
        goes_on(watch, 201)
        live.sql("ALTER TABLE documents ADD COLUMN title text DEFAULT 'new'")
        wait_for(lambda: watch.times("documents goes on") == 1, watch.process)
        live.sql("UPDATE documents SET body = 'edited after it' WHERE id = 1")
        of_text = text_hash("'new edited after it'")
        watch.until(f"SELECT EXISTS (SELECT FROM documents_vectors WHERE id = 1 AND source_hash = {of_text})")
        assert watch.times("documents is left alone: ") == 1


def test_with_no_collection_left_it_ends(live: Project) -> None:
    with live.start("sync", "--watch", "--every", "0.1") as process:
        wait_for(lambda: live.sql(IDLE) == [(2,)], process)
        live.sql("ALTER TABLE documents DROP COLUMN body CASCADE")
        live.sql("ALTER TABLE notes DROP COLUMN body CASCADE")
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert live.sql("SELECT collection FROM vecmig.event WHERE kind = 'failed' ORDER BY 1") == [
        ("documents",),
        ("notes",),
    ]


def test_check_says_first_which_source_was_replaced(live: Project, vecmig: Vecmig) -> None:
    live.sql("DROP VIEW documents_live")
    live.sql("CREATE TABLE notes_new (LIKE notes INCLUDING ALL)")
    live.sql("ALTER TABLE notes RENAME TO notes_old; ALTER TABLE notes_new RENAME TO notes")
    refused = vecmig("check", code=4).stderr.splitlines()
    assert refused == [
        "public.notes is another table than the one whose vectors notes has: that is called public.notes_old now.",
        "Of documents, the live view is gone.",
        "If public.notes has its records now, run: vecmig adopt-source notes",
        "If public.notes_old still has them, write source: public.notes_old in collections.yaml.",
        "Run: vecmig sync",
    ]
    problems = vecmig("check", "--json", code=4).json["problems"]
    assert [(one["name"], one["problem"]) for one in problems] == [
        ("notes", refused[0]),
        ("documents", "Of documents, the live view is gone."),
    ]
