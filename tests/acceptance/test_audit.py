"""``vecmig audit`` as an operator runs it: nothing where all is well, and else what, where, how much, and its fix."""

from __future__ import annotations

import pytest

from support.cli import Vecmig, describe, documents_collection, local, tag, write_hashing
from support.project import Project
from support.terminal import in_terminal, plain

TAG = tag("hashing", 8)


def _prepare(project: Project, vecmig: Vecmig) -> None:
    project.load_documents(30)
    write_hashing(project, 8)
    describe(project, {"documents": documents_collection(TAG)}, {TAG: local(8)})
    vecmig("revision", "-m", "first")
    vecmig("upgrade", "head")


#: What ``migrated`` stands on.
BEGINNINGS = {"migrated": _prepare}


@pytest.fixture
def migrated(project: Project) -> Project:
    """A collection of 30 documents under one tag, live."""
    return project


def test_nothing_is_found_where_all_is_well(migrated: Project, vecmig: Vecmig) -> None:
    assert vecmig("audit").stdout == "No findings (1 collection, 1 tag)\n"
    assert vecmig("audit", "--no-embedder").stdout == "No findings (1 collection, 1 tag; the models were not asked)\n"
    found = vecmig("audit", "documents", "--json").json
    assert (found["findings"], found["collections"], found["models_asked"]) == ([], ["documents"], True)


def test_a_finding_says_what_where_how_much_and_its_fix(migrated: Project, vecmig: Vecmig) -> None:
    migrated.sql("UPDATE documents SET body = 'new' WHERE id = (SELECT min(id) FROM documents)")
    migrated.sql("ALTER TABLE documents ADD COLUMN embedding vector(4) DEFAULT '[1,2,3,4]'")
    result = vecmig("audit", code=4)
    lines = result.stdout.splitlines()
    assert lines[0] == "documents: stale vectors (warning)"
    assert lines[1].startswith("  object  vecmig.documents_vectors_")
    assert f"  tag     {TAG}" in lines
    assert "  fix     vecmig sync documents" in lines
    assert "documents: untagged vectors (warning)" in lines
    assert "  object  public.documents.embedding" in lines
    assert lines[-1] == "2 warnings (1 collection, 1 tag)"
    assert result.stderr.splitlines() == ["The audit has 2 findings."]

    found = vecmig("audit", "--json", code=4).json
    stale, untagged = found["findings"]
    assert (stale["kind"], stale["severity"], stale["collection"], stale["tag"]) == (
        "stale vectors",
        "warning",
        "documents",
        TAG,
    )
    assert (stale["figures"]["records"], stale["fix"]) == (1, "vecmig sync documents")
    assert untagged["figures"]["untagged"] == 30

    migrated.sql("ALTER TABLE documents DROP COLUMN embedding")
    vecmig(*stale["fix"].split()[1:])
    vecmig("audit")


def test_a_statement_stays_in_one_piece(migrated: Project, vecmig: Vecmig) -> None:
    migrated.sql(
        "INSERT INTO documents_vectors (tag, id, chunk, chunks, embedding, source_hash) "
        "SELECT tag, 900 + id, chunk, chunks, embedding, source_hash FROM documents_vectors"
    )
    fixes = [one["fix"] for one in vecmig("audit", "--json", code=4).json["findings"]]
    assert any(len(fix) > 80 for fix in fixes)
    piped = vecmig("audit", code=4).stdout.splitlines()
    wide, narrow = (plain(in_terminal(migrated, "audit", columns=columns)).splitlines() for columns in (200, 80))
    for fix in fixes:
        assert all(f"  fix     {fix}" in shown for shown in (piped, wide, narrow))
    assert all(len(line) <= 80 for line in narrow if not line.startswith("  fix "))


def test_a_provider_that_is_away_is_a_finding_and_no_crash(migrated: Project, vecmig: Vecmig) -> None:
    (migrated.path / "hashing8.py").write_text("def embed(texts):\n    raise OSError('no route to host')\n")
    result = migrated.vecmig("audit", env={"COLUMNS": "80"}).expect(4)
    assert "documents: canary not checked (unchecked)" in result.stdout
    assert "no route to host" in " ".join(result.stdout.split())
    assert result.stdout.splitlines()[-1] == "1 not checked (1 collection, 1 tag)"
    migrated.vecmig("audit", "--no-embedder").expect(0)


def test_an_unknown_collection_is_a_usage_error(migrated: Project, vecmig: Vecmig) -> None:
    assert "nothing" in vecmig("audit", "nothing", code=2).stderr


def _ignore(project: Project, *entries: str) -> None:
    path = project.path / "migrations" / "collections.yaml"
    head, _, _ = path.read_text().partition("ignore:\n")
    path.write_text(f"{head}ignore:\n" + "".join(f"- {entry}\n" for entry in entries))


def test_what_is_known_is_told_apart_until_its_end(migrated: Project, vecmig: Vecmig) -> None:
    migrated.sql("ALTER TABLE documents ADD COLUMN embedding vector(4) DEFAULT '[1,2,3,4]'")
    vecmig("audit", code=4)
    known = "{finding: untagged vectors, collection: documents, reason: it goes with release 12, until: %s}"
    other = "{finding: no index, object: public.elsewhere, reason: tiny, until: 2999-12-31}"
    _ignore(migrated, known % "2999-12-31", other)
    line = (migrated.path / "migrations" / "collections.yaml").read_text().splitlines().index(f"- {other}") + 1
    assert vecmig("audit").stdout.splitlines() == [
        "known: documents: untagged vectors: public.documents.embedding, until 2999-12-31: it goes with release 12",
        f"collections.yaml, line {line}: ignore: there is no finding 'no index' of public.elsewhere.",
        "",
        "No findings, 1 known (1 collection, 1 tag)",
    ]
    told = vecmig("audit", "--json").json
    assert told["findings"] == told["ended"] == []
    assert told["ignored"][0]["finding"]["kind"] == "untagged vectors"
    assert told["ignored"][0]["entry"]["until"] == "2999-12-31"
    assert [entry["finding"] for entry in told["unmatched"]] == ["no index"]

    # another finding counts beside it
    migrated.sql("UPDATE documents SET body = 'new' WHERE id = (SELECT min(id) FROM documents)")
    assert vecmig("audit", code=4).stdout.splitlines()[-1] == "1 warning, 1 known (1 collection, 1 tag)"
    vecmig("sync")

    _ignore(migrated, known % "2026-01-31")
    lines = vecmig("audit", code=4).stdout.splitlines()
    assert "  known   until 2026-01-31, which is over: it goes with release 12" in lines
    assert lines[-1] == "1 warning (1 collection, 1 tag)"
    assert vecmig("audit", "--json", code=4).json["ended"][0]["entry"]["reason"] == "it goes with release 12"

    _ignore(migrated, "{finding: untagged vectors, until: 2999-12-31}")
    assert "ignore: reason is missing" in vecmig("audit", code=2).stderr
