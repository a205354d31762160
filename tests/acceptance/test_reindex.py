"""Another index of the live tag, from collections.yaml to searches and back, by the commands of a team."""

from __future__ import annotations

from support.cli import Vecmig, describe, documents_collection, local, make_documents, script, tag, write_hashing
from support.project import Project

A = tag("hashing", 16)
COUNT = 60


def test_the_index_of_the_live_tag_changes_and_comes_back(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, COUNT)
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(A)}, {A: local(16)})
    script(project, "aaaa", A)
    vecmig("upgrade")
    assert vecmig("revision", "--index", "--to-tag", A, code=2).stderr.startswith(
        "--index does not go together with --to-tag."
    )

    describe(project, {"documents": documents_collection(A)}, {A: local(16) | {"index": {"type": "halfvec"}}})
    assert vecmig("check", "--json").json["pending"] is False, "the file alone changes nothing"
    note = "go by an index of vector, and collections.yaml asks for an index of halfvec: vecmig revision --index"
    assert note in " ".join(vecmig("status").stdout.split())
    vecmig("revision", "--index", "--rev-id", "bbbb", "-m", "half precision")
    assert "index of  " in vecmig("plan").stdout
    told = vecmig("upgrade").stderr
    assert "searches go by an index of halfvec" in told
    assert "embedded" not in told
    assert "collections.yaml asks for" not in vecmig("status").stdout
    assert vecmig("current").stdout.startswith("bbbb  live (head)  half precision")
    assert "served before revision bbbb" in vecmig("audit", code=None).stdout
    assert vecmig("search", "documents", "record 7", "--json").json

    vecmig("downgrade", "-1", "--reason", "slower")
    assert "rollback: searches of" in vecmig("events").stdout
    assert vecmig("upgrade").stdout.count("on hold") == 1
    assert project.sql("SELECT index FROM vecmig.tag") == [({},)]
    vecmig("upgrade", "--release")
    assert project.sql("SELECT index FROM vecmig.tag") == [({"type": "halfvec"},)]
    assert vecmig("upgrade", "head", "--sql", code=None).code in (0, 2)
