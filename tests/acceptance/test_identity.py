"""What a team reads when its table has another name, or another table has its name; by the program's own words."""

from __future__ import annotations

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

A = tag("a", 16)
COUNT = 40
SEARCH = ("search", "documents", "title 7 body of record 7 about subject0", "-k", "1")


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, COUNT)
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(A)}, {A: local(16)})
    script(project, "aaaa", A)
    vecmig("upgrade")


#: What ``live`` stands on.
BEGINNINGS = {"live": _prepare}


@pytest.fixture
def live(project: Project) -> Project:
    """A project on 40 documents whose tag is live."""
    return project


def test_a_nightly_reload(live: Project, vecmig: Vecmig) -> None:
    """Two tables change names; the job says so to vecmig, and only what differs is embedded."""
    live.sql("CREATE TABLE documents_new (LIKE documents INCLUDING ALL)")
    live.sql("INSERT INTO documents_new SELECT * FROM documents")
    live.sql("UPDATE documents_new SET body = 'another body' WHERE id = 3")
    for before, after in (("documents", "swap"), ("documents_new", "documents"), ("swap", "documents_new")):
        live.sql(f"ALTER TABLE {before} RENAME TO {after}")
    now = "that is called public.documents_new now."
    refusal = [
        f"public.documents is another table than the one whose vectors documents has: {now}",
        "Nothing was changed; the vectors are kept.",
        "If public.documents has its records now, run: vecmig adopt-source documents",
        "If public.documents_new still has them, write source: public.documents_new in collections.yaml.",
    ]
    assert vecmig("sync", code=1).stderr.splitlines()[-4:] == refusal
    status = vecmig("status").stdout.splitlines()
    assert status[-1] == "next      vecmig adopt-source documents"
    assert f"  {refusal[0]}" in status
    assert vecmig("status", "--json").json["next"] == "vecmig adopt-source documents"
    assert "source replaced" in vecmig("audit", code=None).stdout
    refused = vecmig("check", code=4).stderr.splitlines()
    assert [refused[0], *refused[-2:]] == [refusal[0], *refusal[-2:]]
    assert vecmig("check", "--json", code=4).json["problems"][0]["problem"] == refusal[0]
    assert "body of record 7 " in vecmig(*SEARCH).stdout
    assert vecmig("adopt-source", "documents").stdout.splitlines() == [
        "documents: public.documents is its source now; public.documents_new has no trigger of vecmig's any more",
        "All vectors are kept. To embed what differs, run: vecmig sync documents",
    ]
    live.sql("TRUNCATE documents_new")
    assert vecmig("status", "--json").json["next"] == "vecmig sync"
    assert f"{A}: 1 record embedded; {COUNT} of {COUNT} fresh" in vecmig("sync", "documents").stderr
    assert vecmig("status").stdout.splitlines()[-1] == "next      nothing to do"
    said = "documents: public.documents is its source already\n"
    assert vecmig("adopt-source", "documents").stdout == said


def test_a_renamed_table(live: Project, vecmig: Vecmig) -> None:
    live.sql("ALTER TABLE documents RENAME TO posts")
    live.sql("ALTER TABLE posts RENAME COLUMN id TO post_id")
    assert "body of record 7 " in vecmig(*SEARCH).stdout
    notes = [
        "collections.yaml names public.documents, which is called public.posts now: correct source: of documents",
        "collections.yaml names the key column id, which is called post_id now: correct key: of documents",
    ]
    status = vecmig("status").stdout.splitlines()
    assert [f"  {note}" for note in notes] == status[status.index("  40 records") + 1 :][:2]
    said = vecmig("sync").stderr
    assert all(said.count(note) == 1 for note in notes)
    assert f"{A}: 0 records embedded; {COUNT} of {COUNT} fresh" in said
    described = documents_collection(A, source="public.posts", key=["post_id"])
    describe(live, {"documents": described}, {A: local(16)})
    assert "is called" not in vecmig("sync").stderr
    assert vecmig("status").stdout.splitlines()[-1] == "next      nothing to do"
