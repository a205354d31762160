"""A role that owns its table and is no superuser, as the pages ask for: back, forward, and after a restore."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from support.cli import Vecmig, new_project, script
from support.cluster import dump, restore
from support.postgres import Postgres
from support.project import INI, NEW_TAG, OLD_TAG, Project
from support.waiting import wait_for

OWNER = "plain_owner"
NOTES = """\
  notes:
    source: public.notes
    key: [id]
    text: body
    tag: {tag}
"""
SEARCH = "SELECT id FROM documents_search((SELECT embedding FROM documents_live ORDER BY id LIMIT 1), 1)"


@pytest.fixture
def name(postgres: Postgres) -> Iterator[str]:
    """A database that belongs to the role."""
    postgres.execute(f"CREATE ROLE {OWNER} LOGIN")
    made = postgres.create_database()
    postgres.execute(f"ALTER DATABASE {made} OWNER TO {OWNER}")
    yield made
    postgres.drop_database(made)
    postgres.execute(f"DROP ROLE {OWNER}")


@pytest.fixture
def project(tmp_path: Path, postgres: Postgres, name: str) -> Project:
    """A project that connects as the role, with both tags: each command has sessions of its own."""
    made = new_project(tmp_path / "project", postgres.url(name, user=OWNER))
    made.load_documents(60)
    script(made, "aaaa", OLD_TAG)
    script(made, "bbbb", NEW_TAG, old=OLD_TAG, down="aaaa")
    return made


def test_the_owner_goes_back_and_forward(project: Project, vecmig: Vecmig) -> None:
    vecmig("upgrade")
    first = project.sql(SEARCH)
    vecmig("downgrade", "-1", "--no-hold")
    assert project.sql(SEARCH) == first
    vecmig("upgrade")
    project.sql("DROP VIEW documents_live")
    project.sql("DROP FUNCTION documents_search")
    vecmig("sync")
    assert project.sql(SEARCH) == first
    vecmig("downgrade", "base")


def test_the_owner_restores_where_pgvector_is_there_already(
    project: Project, vecmig: Vecmig, postgres: Postgres, name: str, tmp_path: Path
) -> None:
    vecmig("upgrade")
    file = tmp_path / "all.dump"
    # another owner's extension: its comment is not the role's to set
    dump(postgres, name, file, "--format=custom", "--no-comments")
    other = postgres.create_database()
    try:
        postgres.execute(f"ALTER DATABASE {other} OWNER TO {OWNER}")
        restore(postgres, file, other, user=OWNER)
        restored = replace(project, database_url=postgres.url(other, user=OWNER))
        restored.ini.write_text(INI.format(database_url=restored.database_url))
        assert restored.sql(SEARCH) == project.sql(SEARCH)
        vecmig("sync")
        vecmig("downgrade", "-1")
    finally:
        postgres.drop_database(other)


def test_a_table_that_it_may_not_read_any_more_holds_up_no_other(project: Project, vecmig: Vecmig) -> None:
    project.sql("CREATE TABLE notes (id bigint PRIMARY KEY, body text)")
    project.sql("INSERT INTO notes SELECT id, body FROM documents WHERE id <= 20")
    file = project.collections
    file.write_text(file.read_text().replace("tags:", f"{NOTES.format(tag=OLD_TAG)}tags:"))
    script(project, "nnnn", OLD_TAG, collection="notes")
    vecmig("upgrade", "nnnn")
    vecmig("upgrade", "aaaa")
    script(project, "mmmm", NEW_TAG, old=OLD_TAG, down="nnnn", collection="notes")
    project.sql(f"REVOKE SELECT ON documents FROM {OWNER}")
    refused = "permission denied for table documents"
    status = vecmig("status").stdout
    assert refused in status
    assert "\nnotes  PENDING" in status
    assert refused in vecmig("check", code=1).stderr
    audit = vecmig("audit", "--no-embedder", code=4).stdout
    assert refused in audit
    assert "(2 collections, 1 tag; the models were not asked)" in audit
    assert "mmmm  revision mmmm" in vecmig("plan", code=1).stdout
    failed = vecmig("upgrade", code=1).stderr
    assert refused in failed
    assert "Revision mmmm of notes is live." in failed
    with project.start("sync", "--watch", "--every", "0.1") as process:
        try:
            project.sql("INSERT INTO notes VALUES (100, 'written meanwhile')")
            found = "SELECT EXISTS (SELECT FROM notes_live WHERE id = 100)"
            wait_for(lambda: project.sql(found) == [(True,)], process)
            project.sql(f"GRANT SELECT ON documents TO {OWNER}; INSERT INTO documents VALUES (100, 'a', 'text')")
            found = "SELECT EXISTS (SELECT FROM documents_live WHERE id = 100)"
            wait_for(lambda: project.sql(found) == [(True,)], process)
        finally:
            process.kill()


def test_a_search_leaves_the_scan_of_its_transaction_as_it_was(project: Project, vecmig: Vecmig) -> None:
    vecmig("upgrade")
    for setting in ("off", "relaxed_order"):
        with psycopg.connect(project.database_url) as connection:
            connection.execute(SEARCH)
            connection.execute(f"SET LOCAL hnsw.iterative_scan = {setting}")
            connection.execute(SEARCH)
            assert connection.execute("SHOW hnsw.iterative_scan").fetchone() == (setting,)
    with psycopg.connect(project.database_url) as connection:
        connection.execute(SEARCH)
        assert connection.execute("SHOW hnsw.iterative_scan").fetchone() == ("off",)
