"""Vectors that one environment has bought serve another: from the command line, there and back, and after a kill."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, new_project, script, tag
from support.held_writes import HELD, hold_at
from support.postgres import Postgres
from support.project import Project
from support.provider import Provider
from support.stamps import text_hash
from support.waiting import wait_for
from vecmig.gate.canary import CANARY_TEXTS
from vecmig.gate.spot import SAMPLE

TAG, NEXT = tag("fake", 8), tag("next", 8)
COUNT, HELD_AT = 5_000, 4_000
_SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'vecmig%%'"
)
#: Vectors that are not of the text that their record has, or that one record has twice.
_WRONG = f"""
SELECT count(*) FILTER (WHERE v.source_hash <> {text_hash("d.title || ' ' || d.body")}), count(*) - count(DISTINCT id)
FROM documents_vectors v LEFT JOIN documents d USING (id)
"""


@pytest.fixture
def staging(tmp_path: Path, postgres: Postgres, provider: Provider) -> Iterator[Project]:
    """Another project of the same team, with the same records and a live first tag."""
    database = postgres.create_database()
    made = new_project(tmp_path / "staging", postgres.url(database))
    _prepare(made, provider)
    made.vecmig("upgrade", "aaaa").expect()
    yield made
    postgres.drop_database(database)


@pytest.fixture
def production(project: Project, provider: Provider, staging: Project, vecmig: Vecmig) -> Project:
    """The project, whose first tag has its place and no vector."""
    _prepare(project, provider)
    vecmig("upgrade", "aaaa", "--until", "expand")
    provider.forget()
    return project


def _prepare(project: Project, provider: Provider) -> None:
    make_documents(project, COUNT)
    recipe = {"provider": "openai", "dims": 8, "base_url": provider.url, "max_batch": 500}
    describe(project, {"documents": documents_collection(TAG)}, {TAG: recipe, NEXT: recipe})
    script(project, "aaaa", TAG)
    script(project, "bbbb", NEXT, old=TAG, down="aaaa")


def _bought(provider: Provider) -> set[str]:
    """Return the texts of records that were sent."""
    sent = (text for request in provider.requests() for text in request["inputs"])
    return {text for text in sent if text.startswith("title")}


def test_what_staging_bought_serves_production_and_back(
    production: Project, staging: Project, vecmig: Vecmig, provider: Provider, tmp_path: Path
) -> None:
    file = tmp_path / "first.vectors"
    said = staging.vecmig("vectors", "export", "documents", TAG, str(file)).expect()
    assert said.stdout.startswith(f"{file}: 5,000 vectors of 5,000 texts under {TAG}, ")
    assert said.stdout.endswith("  where they are wanted, run: vecmig vectors import first.vectors\n")
    assert "export    5,000 vectors of 5,000 texts" in said.stderr

    production.sql("UPDATE documents SET body = 'of production alone' WHERE id <= 3")
    said = vecmig("vectors", "import", str(file))
    assert said.stdout == (
        f"documents: 4,997 records have vectors of the file under {TAG} now; coverage 99.94 %\n"
        "  3 texts of the file not taken: of no record here\n"
    )
    assert "import    4,997 records filled; 4,997 of 5,000 fresh" in said.stderr
    again = vecmig("vectors", "import", str(file), "--json").json
    assert again == {
        "collection": "documents",
        "tag": TAG,
        "file": {"vectors": COUNT, "texts": COUNT},
        "texts": 0,
        "records": 0,
        "unknown": 3,
        "present": COUNT - 3,
        "unsound": 0,
        "mismatched": 0,
        "changed": 0,
        "fresh": COUNT - 3,
        "eligible": COUNT,
        "coverage": 0.9994,
    }
    assert provider.requests() == []
    vecmig("upgrade", "aaaa")
    assert len(_bought(provider)) <= 3 + SAMPLE + 2
    assert "imported for fake/dim-8: vectors for 4,997 records in " in vecmig("events").stdout

    # and back: what production has bought of the next tag
    vecmig("upgrade", "bbbb")
    made = vecmig("vectors", "export", "documents", NEXT, str(tmp_path / "next.vectors"), "--json").json
    assert (made["vectors"], made["texts"]) == (COUNT, COUNT)
    staging.vecmig("upgrade", "bbbb", "--until", "expand").expect()
    provider.forget()
    taken = staging.vecmig("vectors", "import", str(tmp_path / "next.vectors"), "--json").expect().json
    assert (taken["records"], taken["unknown"]) == (COUNT - 3, 3)
    assert provider.requests() == []


def test_killed_in_the_middle_of_an_import_it_goes_on(
    production: Project, staging: Project, vecmig: Vecmig, provider: Provider, tmp_path: Path
) -> None:
    project, file = production, str(tmp_path / "vectors")
    staging.vecmig("vectors", "export", "documents", TAG, file).expect()
    project.sql(hold_at(HELD_AT))
    with psycopg.connect(project.database_url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(7)")
        with project.running("vectors", "import", file) as process:
            wait_for(lambda: project.sql(HELD) == [(1,)], process)
            wait_for(lambda: project.sql("SELECT count(*) >= 2000 FROM documents_vectors") == [(True,)], process)
            assert vecmig("vectors", "import", file, code=5).stdout == ""
            process.send_signal(signal.SIGKILL)
            assert process.wait(60) == -signal.SIGKILL
    wait_for(lambda: project.sql(_SESSIONS) == [(0,)])
    ((there,),) = project.sql("SELECT count(*) FROM documents_vectors")
    assert project.sql(_WRONG) == [(0, 0)]
    taken = vecmig("vectors", "import", file, "--json").json
    assert (taken["records"], taken["present"]) == (COUNT - there, there)
    assert project.sql(_WRONG) == [(0, 0)]
    assert provider.requests() == []
    vecmig("upgrade", "aaaa")
    assert set(CANARY_TEXTS) <= {text for request in provider.requests() for text in request["inputs"]}


def test_killed_in_the_middle_of_an_export_it_leaves_no_file(staging: Project, tmp_path: Path) -> None:
    file = tmp_path / "vectors"
    with psycopg.connect(staging.database_url) as connection:
        connection.execute("BEGIN; LOCK TABLE documents_vectors IN ACCESS EXCLUSIVE MODE")
        with staging.running("vectors", "export", "documents", TAG, str(file)) as process:
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            wait_for(lambda: staging.sql(waits) != [(0,)], process)
            process.send_signal(signal.SIGKILL)
            process.wait(60)
    assert not file.exists()
    staging.vecmig("vectors", "export", "documents", TAG, str(file)).expect()
    assert staging.vecmig("vectors", "export", "documents", TAG, str(file)).code == 2


def test_a_file_that_was_altered_is_an_error_with_a_next_step(
    production: Project, staging: Project, vecmig: Vecmig, tmp_path: Path
) -> None:
    file = tmp_path / "vectors"
    staging.vecmig("vectors", "export", "documents", TAG, str(file)).expect()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert vecmig("vectors", "import", str(file), code=1).stderr == (
        f"{file} was cut or altered: its checksum does not match.\n"
        "Nothing was changed.\n"
        "Copy it again, or write it again: vecmig vectors export COLLECTION TAG FILE\n"
    )
    assert production.sql("SELECT count(*) FROM documents_vectors") == [(0,)]
