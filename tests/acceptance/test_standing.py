"""What becomes of vecmig's objects when the team's own schema tool drops them, as Django's RemoveField does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.cli import (
    Vecmig,
    describe,
    documents_collection,
    local,
    make_documents,
    partition,
    script,
    tag,
    write_hashing,
)
from support.project import Project
from support.waiting import wait_for

A = tag("hashing", 8)
COUNT = 30
IDLE = "SELECT count(*) FROM vecmig.run WHERE what = 'sync' AND reason LIKE 'no change %; last full pass %'"
SEARCH = "SELECT count(*) FROM documents_search((SELECT embedding FROM documents_vectors WHERE id = 7), 1)"
GRANTED = "SELECT has_table_privilege('standing_reports', to_regclass('documents_live')::oid, 'SELECT')"


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, COUNT)
    project.sql("ALTER TABLE documents ADD note text")
    project.sql("DO $$ BEGIN CREATE ROLE standing_reports; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    project.sql("GRANT SELECT ON documents TO standing_reports")
    write_hashing(project, 8)
    describe(project, {"documents": documents_collection(A, live_columns="all")}, {A: local(8)})
    script(project, "aaaa", A)
    vecmig("upgrade")


#: What ``live`` stands on.
BEGINNINGS = {"live": _prepare}


@pytest.fixture
def live(project: Project) -> Project:
    """A project whose tag is live, on a table with a column that vecmig does not need."""
    return project


@contextmanager
def watching(project: Project) -> Iterator[subprocess.Popen[str]]:
    """Run the service in the background, and wait until it has nothing to do."""
    with project.start("sync", "--watch", "--every", "0.1") as process:
        try:
            wait_for(lambda: project.sql(IDLE) == [(1,)], process)
            yield process
        finally:
            process.kill()


def there(project: Project) -> bool:
    """Whether all of vecmig's objects are there, and read by those who read them before."""
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'documents'::regclass AND tgname LIKE 'vecmig%'"
    attached = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'documents_vectors'::regclass"
    return (
        project.sql("SELECT to_regclass('documents_live') IS NOT NULL, to_regproc('documents_search') IS NOT NULL")
        == [(True, True)]
        and project.sql(GRANTED) == [(True,)]
        and project.sql(triggers) == [(3,)]
        and project.sql(attached) == [(1,)]
    )


DROPPED = {
    "a column": "ALTER TABLE documents DROP COLUMN note CASCADE",
    "the function": "DROP FUNCTION documents_search",
    "a trigger": "DROP TRIGGER vecmig_documents_track ON documents",
    "a trigger's effect": "ALTER TABLE documents DISABLE TRIGGER vecmig_documents_track_update",
    "the partition": f"ALTER TABLE documents_vectors DETACH PARTITION {partition('documents', A)}",
}


def test_the_watch_makes_again_what_somebody_dropped(live: Project, vecmig: Vecmig) -> None:
    with watching(live) as service:
        for number, statement in enumerate(DROPPED.values(), start=1):
            live.sql(statement)
            key = 100 + number
            live.sql(f"INSERT INTO documents VALUES ({key}, 'came', 'meanwhile {key}')")
            wait_for(lambda: there(live), service)
            found = f"SELECT count(*) FROM documents_vectors WHERE id = {key}"
            wait_for(lambda found=found: live.sql(found) == [(1,)], service)  # type: ignore[misc]
    assert live.sql("SELECT count(*) FROM documents_live") == [(COUNT + len(DROPPED),)]


def test_check_status_and_upgrade_say_what_is_missing(live: Project, vecmig: Vecmig) -> None:
    live.sql(DROPPED["a column"])
    refused = vecmig("check", code=4)
    assert refused.stderr == "Of documents, the live view is gone.\nRun: vecmig sync\n"
    (problem,) = vecmig("check", "--json", code=4).json["problems"]
    assert problem == {
        "name": "documents",
        "problem": "Of documents, the live view is gone.",
        "next": "Run: vecmig sync",
    }
    shown = vecmig("status").stdout
    assert "  Of documents, the live view is gone.\n  Run: vecmig sync\n" in shown
    assert shown.endswith("next      vecmig sync\n")
    told = vecmig("upgrade", "head")
    assert "documents: the live view is gone: made good" in told.stderr
    assert there(live)
    assert vecmig("check").stdout == "Nothing is pending.\n"
    assert "made good" not in vecmig("upgrade", "head").stderr


PROTECTED = "ALTER TABLE documents ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON documents USING (id = 3)"
UNPROTECTED = "Of documents, the vectors have no row-level security, and public.documents has it."
SECURED = """
SELECT count(*) FROM pg_class c
WHERE c.relrowsecurity AND (c.oid = 'documents_vectors'::regclass
      OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'documents_vectors'::regclass))
"""
READS = "SELECT has_table_privilege('standing_reports', 'documents_vectors', 'SELECT')"


def test_check_status_and_upgrade_say_where_vectors_show_more_than_their_source(live: Project, vecmig: Vecmig) -> None:
    live.sql(PROTECTED)
    assert vecmig("check", code=4).stderr == f"{UNPROTECTED}\nRun: vecmig sync\n"
    shown = vecmig("status").stdout
    assert f"  {UNPROTECTED}\n  Run: vecmig sync\n" in shown
    assert shown.endswith("next      vecmig sync\n")
    assert vecmig("status", "--json").json["collections"][0]["problem"] == UNPROTECTED
    vecmig("status", "--check", code=4)
    told = vecmig("upgrade", "head")
    assert "the vectors have no row-level security, and public.documents has it: made good" in told.stderr
    assert live.sql(SECURED) == [(2,)]
    assert vecmig("check").stdout == "Nothing is pending.\n"
    assert "made good" not in vecmig("sync").stderr


def test_the_watch_follows_what_becomes_of_the_rights_to_the_source(live: Project) -> None:
    with watching(live) as service:
        live.sql(PROTECTED)
        wait_for(lambda: live.sql(SECURED) == [(2,)], service)
        live.sql(f"ALTER TABLE {partition('documents', A)} DISABLE ROW LEVEL SECURITY")
        wait_for(lambda: live.sql(SECURED) == [(2,)], service)
        live.sql("DROP POLICY vecmig_as_source ON documents_vectors")
        policy = "SELECT count(*) FROM pg_policy WHERE polname = 'vecmig_as_source'"
        wait_for(lambda: live.sql(policy) == [(1,)], service)
        live.sql("REVOKE SELECT ON documents FROM standing_reports")
        wait_for(lambda: live.sql(READS) == [(False,)], service)
        live.sql("GRANT SELECT ON documents TO standing_reports")
        wait_for(lambda: live.sql(READS) == [(True,)], service)
        live.sql(f"GRANT SELECT ON {partition('documents', A)} TO standing_reports")
        granted = f"SELECT has_table_privilege('standing_reports', '{partition('documents', A)}', 'SELECT')"
        wait_for(lambda: live.sql(granted) == [(False,)], service)
        live.sql("ALTER TABLE documents DISABLE ROW LEVEL SECURITY")
        wait_for(lambda: live.sql(SECURED) == [(0,)], service)


def test_an_upgrade_without_a_revision_to_run_makes_it_again(live: Project, vecmig: Vecmig) -> None:
    for what, statement in DROPPED.items():
        live.sql(statement)
        vecmig("check", code=4)
        vecmig("upgrade")
        assert there(live), what
        vecmig("check")


@pytest.mark.parametrize("command", [("sync",), ("upgrade",), ("check",)])
def test_a_column_that_text_needs_is_named_and_searches_go_on(
    live: Project, vecmig: Vecmig, command: tuple[str, ...]
) -> None:
    live.sql("ALTER TABLE documents DROP COLUMN body CASCADE")
    refused = vecmig(*command, code=2)
    assert refused.stderr.startswith("Collection documents: the text expression ")
    assert 'column "body" does not exist' in refused.stderr
    assert live.sql(SEARCH) == [(1,)]
    if command != ("check",):
        assert live.sql("SELECT count(*) FROM documents_live") == [(COUNT,)]
        assert live.sql(GRANTED) == [(True,)]


def test_the_watch_ends_by_name_of_the_column_and_searches_go_on(live: Project) -> None:
    with watching(live) as service:
        live.sql("ALTER TABLE documents DROP COLUMN body CASCADE")
        _, err = service.communicate(timeout=60)
    assert service.returncode == 2
    assert 'column "body" does not exist' in err
    assert live.sql(SEARCH) == [(1,)]
    assert live.sql("SELECT count(*) FROM documents_live") == [(COUNT,)]


def test_a_volatile_text_is_said_by_check_before_anything_is_run(live: Project, vecmig: Vecmig) -> None:
    describe(live, {"documents": documents_collection(A, live_columns="all", text="title || random()")}, {A: local(8)})
    for command in ("check", "sync", "upgrade"):
        assert "text calls random(), which is VOLATILE" in vecmig(command, code=2).stderr
    assert "text calls random(), which is VOLATILE" in vecmig("status").stdout


def test_the_watch_begins_to_scan_when_a_child_inherits(live: Project, vecmig: Vecmig) -> None:
    with watching(live) as service:
        live.sql(
            "CREATE TABLE documents_2024 (PRIMARY KEY (id)) INHERITS (documents);"
            "INSERT INTO documents_2024 VALUES (501, 'a', 'child')"
        )
        wait_for(lambda: live.sql("SELECT count(*) FROM documents_live WHERE id = 501") == [(1,)], service)
        wait_for(lambda: live.sql(IDLE) == [(1,)], service)
        assert live.sql("SELECT reason LIKE 'no change was found; last full pass %' FROM vecmig.run") == [(True,)]
        said = "changes are found by scanning: public.documents_2024 inherits from public.documents\n"
        assert said in vecmig("status").stdout
        service.terminate()
        _, err = service.communicate(timeout=60)
    assert "changes of documents are found by scanning" in err


def test_the_watch_finds_the_rows_of_a_partition_that_is_attached(project: Project, vecmig: Vecmig) -> None:
    project.sql(
        "CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text) PARTITION BY RANGE (id);"
        "CREATE TABLE documents_1 PARTITION OF documents FOR VALUES FROM (1) TO (100);"
        "INSERT INTO documents SELECT n, 'title', 'body ' || n FROM generate_series(1, 20) AS n;"
        "CREATE TABLE documents_2 (LIKE documents INCLUDING ALL);"
        "INSERT INTO documents_2 SELECT n, 'title', 'body ' || n FROM generate_series(100, 110) AS n"
    )
    write_hashing(project, 8)
    describe(project, {"documents": documents_collection(A)}, {A: local(8)})
    script(project, "aaaa", A)
    vecmig("upgrade")
    with watching(project) as service:
        project.sql("ALTER TABLE documents ATTACH PARTITION documents_2 FOR VALUES FROM (100) TO (200)")
        wait_for(lambda: project.sql("SELECT count(*) FROM documents_live") == [(31,)], service)
