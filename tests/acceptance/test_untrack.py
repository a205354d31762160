"""``vecmig untrack`` at the command line: whatever became of the source, and what the next sync makes of it."""

from __future__ import annotations

import pytest

from support.cli import Vecmig, describe, documents_collection, local, make_documents, script, tag
from support.cli import write_hashing as write_models
from support.project import Project

A = tag("only", 16)

_TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'vecmig\\_%'"
_FUNCTION = "SELECT to_regproc('vecmig.documents_track')"
_BECAME = {
    "nothing": "SELECT",
    "key renamed": "ALTER TABLE documents RENAME id TO doc_id",
    "table renamed": "ALTER TABLE documents RENAME TO posts",
    "names exchanged": "ALTER TABLE documents RENAME TO old; CREATE TABLE documents (LIKE old INCLUDING ALL)",
    "table dropped": "DROP TABLE documents CASCADE",
}


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project)
    write_models(project, 16)
    describe(project, {"documents": documents_collection(A)}, {A: local(16)})
    script(project, "aaaa", A)
    vecmig("upgrade", "head")


#: What ``live`` stands on.
BEGINNINGS = {"live": _prepare}


@pytest.fixture
def live(project: Project) -> Project:
    """One tag, live."""
    return project


@pytest.mark.parametrize("became", _BECAME.values(), ids=list(_BECAME))
def test_the_triggers_go_whatever_became_of_the_source(live: Project, vecmig: Vecmig, became: str) -> None:
    live.sql(became)
    live.collections.write_text("collections: {}\ntags: {}\n")
    assert "documents is untracked: " in vecmig("untrack", "documents").stdout
    assert live.sql(_TRIGGERS) == [(0,)]
    assert live.sql(_FUNCTION) == [(None,)]
    assert live.sql("SELECT kind FROM vecmig.event ORDER BY id DESC LIMIT 1") == [("untrack",)]
    vecmig("untrack", "documents")


def test_a_sync_installs_them_again_and_misses_nothing(live: Project, vecmig: Vecmig) -> None:
    vecmig("untrack", "documents")
    live.sql("UPDATE documents SET body = 'changed' WHERE id = 1")
    live.sql("DELETE FROM documents WHERE id = 2")
    assert "it is untracked, and nothing tells of changes" in vecmig("status").stdout
    vecmig("sync")
    assert live.sql(_TRIGGERS) == [(3,)]
    assert live.sql("SELECT count(*) FROM vecmig.full_pass") == [(0,)]
    (status,) = vecmig("status", "--json").json["collections"]
    assert (status["problem"], status["full_pass"]) == (None, [])
    assert status["tags"][0]["coverage"] == 1


def test_an_unknown_collection_is_refused(live: Project, vecmig: Vecmig) -> None:
    assert "no collection articles" in vecmig("untrack", "articles", code=2).stderr
