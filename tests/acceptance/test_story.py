"""A team's way with vecmig: from nothing to a first tag, to a second, back and forward again; each run a process."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, partition, script, tag
from support.project import NEW_TAG, OLD_TAG, Project
from support.provider import Provider
from vecmig.ledger.schema import VERSION

LIVE = """
SELECT tag, count(*), min(v.embedded_at), max(v.embedded_at)
FROM documents_live JOIN documents_vectors v USING (tag, id, chunk) GROUP BY tag
"""


def test_two_tags_and_back(project: Project, documents: int) -> None:
    project = replace(project, anew=True)
    project.vecmig("revision", "-m", "first tag").expect()
    done = project.vecmig("upgrade", "head").expect()
    assert re.fullmatch(r"[0-9a-f]{12}  live  first tag\n", done.stdout)
    steps = [line.split()[0] for line in done.stderr.splitlines() if line.startswith("  ")]
    assert steps == ["expand", "backfill", "index", "cutover"]
    assert [row[:2] for row in project.sql(LIVE)] == [(OLD_TAG, documents)]

    project.want_tag(NEW_TAG)
    first, second = project.versions[0].name[:12], None
    assert project.vecmig("check").expect(4).stderr == (
        f"documents reads {OLD_TAG}, and collections.yaml asks for {NEW_TAG}.\nRun: vecmig revision\n"
    )
    project.vecmig("revision", "-m", "second tag").expect()
    second = next(path.name[:12] for path in project.versions if not path.name.startswith(first))
    project.vecmig("upgrade").expect()
    before = project.sql(LIVE)
    assert [row[:2] for row in before] == [(NEW_TAG, documents)]

    back = project.vecmig("downgrade", "-1", "--reason", "recall fell").expect()
    assert back.stdout == f"{second}  rolled back  second tag\n  reads of documents use {OLD_TAG}\n"
    assert back.stderr.endswith(f"On hold: vecmig upgrade passes it by until you run: vecmig release {second}\n")
    assert "no vector was touched" in back.stderr
    assert [row[:2] for row in project.sql(LIVE)] == [(OLD_TAG, documents)]
    assert project.vecmig("current").expect().stdout == f"{first}  live  first tag\n"

    held = project.vecmig("upgrade", "head").expect().stdout
    assert re.fullmatch(rf"{second}  on hold  since \S+ \S+ UTC by .*: recall fell; to go .*release {second}\n", held)
    project.vecmig("status", "--check").expect()
    project.vecmig("check").expect()
    project.vecmig("current", "--check-heads").expect()
    assert project.vecmig("release", second).expect().stdout == f"{second}  released\n"
    forward = project.vecmig("upgrade", "head").expect()
    assert f"backfill  0 records embedded; {documents} of {documents} fresh" in forward.stderr
    assert project.sql(LIVE) == before, "embedded_at included: nothing was embedded again"

    project.vecmig("eval", "--make", "known-item", "--size", "5", "--title", "title").expect()
    for command in ("heads", "history", "plan", "status", "gate", "rejected", "audit", "eval", "sync"):
        project.vecmig(command).expect()
    for command in ("pause", "tune", "resume", "route"):
        project.vecmig(command, "documents").expect()
    assert json.loads(project.vecmig("search", "documents", "gzip", "--json").expect().stdout)[0]["tag"] == NEW_TAG

    project.vecmig("downgrade", "base").expect()
    assert project.sql(LIVE) == []
    assert project.sql("SELECT count(*) FROM documents_vectors") == [(2 * documents,)]
    kinds = [kind for (kind,) in project.sql("SELECT kind FROM vecmig.event ORDER BY id")]
    forward_kinds, others = ["expand", "backfill", "index", "cutover"], ["pause", "resume"]
    assert kinds == [*forward_kinds * 2, "rollback", "release", *forward_kinds, *others, "rollback", "rollback"]


def test_search_speaks_to_the_live_tag(project: Project, documents: int, vecmig: Vecmig) -> None:
    script(project, "aaaa", OLD_TAG)
    script(project, "bbbb", NEW_TAG, old=OLD_TAG, down="aaaa")
    vecmig("upgrade", "aaaa")
    vecmig("upgrade", "+1")
    found = vecmig("search", "documents", "compress a string with gzip", "-k", "3")
    assert found.stderr == f"tag {NEW_TAG}\n"
    assert found.stdout.splitlines()[0].split() == ["distance", "key", "text"]
    assert len(found.stdout.splitlines()) == 4
    hits = vecmig("search", "documents", "compress a string with gzip", "-k", "3", "--json").json
    assert [set(hit) for hit in hits] == [{"key", "tag", "chunk", "distance", "text", "record"}] * 3
    assert {hit["tag"] for hit in hits} == {NEW_TAG}
    assert hits[0]["record"]["id"] == hits[0]["key"][0]
    older = vecmig("search", "documents", "compress a string", "-k", "1", "--tag", OLD_TAG, "--json").json
    assert [hit["tag"] for hit in older] == [OLD_TAG]
    refused = vecmig("search", "documents", "x", "--tag", tag("other", 8), code=2)
    assert refused.stderr == (
        f"Collection documents has no tag other@1/dim-8/chunk-none/norm-l2.\nIts tags are: {OLD_TAG}, {NEW_TAG}\n"
    )
    assert vecmig("search", "papers", "x", code=2).stderr == (
        "This database has no collection papers.\nIts collections are: documents\n"
    )
    assert vecmig("search", "documents", "  ", code=2).stderr == "A blank query cannot be embedded.\n"


def test_until(project: Project, documents: int, vecmig: Vecmig) -> None:
    script(project, "aaaa", OLD_TAG)
    for until, phase, fresh, index in [
        ("expand", "expanded", 0, "none"),
        ("backfill", "backfilled", documents, "none"),
        ("index", "indexed", documents, "valid"),
        ("gate", "indexed", documents, "valid"),
    ]:
        assert vecmig("upgrade", "head", "--until", until).stdout == f"aaaa  {phase}  revision aaaa\n"
        (collection,) = vecmig("status", "--json").json["collections"]
        (row,) = collection["tags"]
        assert (row["fresh"], row["index"], collection["live_tag"]) == (fresh, index, None)
        assert vecmig("current").stdout == f"aaaa  {phase}  revision aaaa\n"
    assert vecmig("upgrade").stdout == "aaaa  live  revision aaaa\n"
    wrong = vecmig("upgrade", "--until", "cutover", code=2)
    assert wrong.stderr == "--until 'cutover' is not a phase.\nIt is one of: expand, backfill, index, gate\n"


def test_until_expand_of_several(project: Project, documents: int, vecmig: Vecmig) -> None:
    script(project, "aaaa", OLD_TAG)
    script(project, "bbbb", NEW_TAG, old=OLD_TAG, down="aaaa")
    assert vecmig("upgrade", "--until", "expand").stdout == "aaaa  expanded  revision aaaa\n"
    vecmig("upgrade", "aaaa")
    assert vecmig("upgrade", "--until", "index").stdout == "bbbb  indexed  revision bbbb\n"


def test_backfill_by_halves_and_the_gate_refuses(project: Project, vecmig: Vecmig, provider: Provider) -> None:
    count = make_documents(project, 100)
    new = tag("fake", 8)
    describe(project, {"documents": documents_collection(new)}, {new: openai(provider)})
    script(project, "aaaa", new, cutover="m.cutover(gate)")
    assert vecmig("gate").stdout == "No revision is in progress, so there is no gate to judge.\n"
    assert vecmig("gate", "--json", "documents").json == []
    begin = "No revision is in progress.\nBegin one: vecmig upgrade --until expand\n"
    assert vecmig("backfill", code=2).stderr == begin
    vecmig("upgrade", "--until", "expand")
    half = vecmig("backfill", "--limit", "50")
    assert half.stdout == "documents: 50 of 100 records fresh, 50 %\n"
    assert len(records_of(provider)) == len(set(records_of(provider))) == 50
    refused = vecmig("gate", code=3)
    assert refused.stdout.splitlines()[0] == f"documents: gate of aaaa to {new}"
    assert [line.split()[:2] for line in refused.stdout.splitlines()[2:]] == [
        ["NO", "coverage"],
        ["NO", "freshness"],
        ["NO", "unexplained"],
        ["ok", "vectors"],
        ["NO", "index"],
        ["NO", "index"],
        ["ok", "canary"],
        ["ok", "spot"],
        ["ok", "truncation"],
        ["ok", "query"],
    ]
    assert "50 of 100 records have no fresh vector" in refused.stdout
    assert refused.stderr == (
        "The gate of documents refuses: coverage, freshness, unexplained, index, index used.\n"
        "Run: vecmig backfill\nRun: vecmig upgrade head --until index\n"
    )
    report = vecmig("gate", "--json", code=3)
    assert json.loads(report.stdout)[0]["checks"][0] == {
        "name": "coverage",
        "passed": False,
        "value": 0.5,
        "required": 0.995,
        "detail": "50 of 100 records have no fresh vector",
    }
    # all records, but no index: cutover() of this script forgot m.build_index()
    stopped = vecmig("upgrade", code=3)
    assert stopped.stdout.splitlines()[1:5] == [
        "  ok  coverage     100 %       ≥ 99.5 %    0 of 100 records have no fresh vector",
        "  ok  freshness    0 %         ≤ 0.5 %     0 records are stale and 0 missing",
        (
            "  ok  unexplained  0           0           "
            "each record without a fresh vector changed lately or was rejected with a reason"
        ),
        ("  ok  vectors      guaranteed  guaranteed  dims and length of every vector are guaranteed"),
    ]
    assert stopped.stderr.splitlines()[-3:] == [
        f"The gate of documents refuses the cutover to {new}: index, index used.",
        "Nothing was changed: reads go on as before.",
        "Run: vecmig upgrade head --until index",
    ]
    assert vecmig("status", "--json").json["collections"][0]["live_tag"] is None
    assert len(set(records_of(provider))) == count


def records_of(provider: Provider) -> list[str]:
    """Those of the texts paid for that are records, and no canaries."""
    return [text for text in provider.paid() if text.startswith("title")]


def openai(provider: Provider, **fields: object) -> dict[str, object]:
    """Give a recipe of the openai provider on the local server."""
    return {"provider": "openai", "dims": 8, "base_url": provider.url, "normalise": "verify"} | fields


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_nothing_is_paid_for_twice(
    project: Project, vecmig: Vecmig, provider: Provider, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-of-this-test")
    count = make_documents(project, 60)
    old, new = tag("fake", 8), tag("other", 8)
    recipe = openai(provider, encoding_format=encoding, max_batch=16, api_key_env="MY_KEY")
    describe(project, {"documents": documents_collection(old)}, {old: recipe, new: recipe | {"model": "other"}})
    script(project, "aaaa", old)
    script(project, "bbbb", new, old=old, down="aaaa")
    # the gate embeds a sample again to compare it, so the count is taken before
    vecmig("upgrade", "aaaa", "--until", "index")
    assert {(r["model"], r["encoding_format"], r["authorization"]) for r in provider.requests()} == {
        ("fake", encoding, "Bearer sk-of-this-test")
    }
    records = records_of(provider)
    assert len(records) == len(set(records)) == count
    vecmig("upgrade", "head")
    provider.forget()
    embedded = project.sql("SELECT tag, id, embedded_at FROM documents_vectors ORDER BY 1, 2")
    for target in ("-1", "base"):
        vecmig("downgrade", target, "--no-hold")
        provider.forget()
        vecmig("upgrade", "+1", "--until", "index")
        assert records_of(provider) == []
        vecmig("upgrade", "heads")
    assert project.sql("SELECT tag, id, embedded_at FROM documents_vectors ORDER BY 1, 2") == embedded


def test_sync_after_edits(project: Project, vecmig: Vecmig, provider: Provider) -> None:
    count = make_documents(project, 50)
    old, new = tag("fake", 8), tag("other", 8)
    recipe = openai(provider)
    describe(project, {"documents": documents_collection(new)}, {old: recipe, new: recipe})
    script(project, "aaaa", old)
    script(project, "bbbb", new, old=old, down="aaaa")
    vecmig("upgrade")
    project.sql("UPDATE documents SET body = 'edited ' || id WHERE id <= 3")
    project.sql("DELETE FROM documents WHERE id = 50")
    project.sql("INSERT INTO documents VALUES (51, 'new', 'record'), (52, ' ', NULL), (53, '', '  ')")
    project.sql("UPDATE documents SET title = NULL WHERE id = 4")
    provider.forget()
    shown = vecmig("status")
    assert "4 changed records" not in shown.stdout.split("next")[1]
    (collection,) = vecmig("status", "--json").json["collections"]
    assert (collection["records"], collection["eligible"]) == (count + 2, count - 1)
    live = next(row for row in collection["tags"] if row["tag"] == new)
    assert (live["state"], live["fresh"], live["stale"], live["missing"]) == ("live", 45, 3, 1)
    assert vecmig("status", "--check", code=4).stderr == "Something is pending.\nRun: vecmig sync\n"
    done = vecmig("sync")
    assert (
        done.stdout
        == f"documents, {new}: 49 of 49 records fresh, 100 %\ndocuments, {old}: 49 of 49 records fresh, 100 %\n"
    )
    for one in (new, old):
        told = rf"^  sync      documents, {re.escape(one)}: \d+ records? embedded; 49 of 49 fresh"
        assert re.search(told, done.stderr, re.MULTILINE)
    sent = sorted(text for text in provider.paid() if not text.startswith(("The quick", "How do I", "Über")))
    assert sent == sorted(["title 1 edited 1", "title 2 edited 2", "title 3 edited 3", "new record"] * 2)
    assert project.sql("SELECT count(*) FROM vecmig.change") == [(0,)]
    assert project.sql("SELECT tag, count(*) FROM documents_vectors GROUP BY 1 ORDER BY 1") == [(old, 49), (new, 49)]
    assert vecmig("status", "--check").stderr == ""
    provider.forget()
    vecmig("sync", "documents")
    assert records_of(provider) == []
    assert vecmig("sync", "papers", code=2).stderr.splitlines()[0] == (
        "migrations/collections.yaml has no collection 'papers'; it has: documents."
    )


def test_downgrade_of_a_revision_that_is_not_live(project: Project, vecmig: Vecmig, documents: int) -> None:
    script(project, "aaaa", OLD_TAG)
    script(project, "bbbb", NEW_TAG, old=OLD_TAG, down="aaaa")
    vecmig("upgrade", "aaaa")
    vecmig("upgrade", "head", "--until", "index")
    kept = vecmig("downgrade", "-1", "--no-hold")
    moves = f"  reads of documents have not moved: they use {OLD_TAG}; to move them back: vecmig downgrade -1\n"
    assert kept.stdout == f"bbbb  abandoned  revision bbbb\n{moves}"
    assert "its vectors are kept" in kept.stderr
    relation = partition("documents", NEW_TAG)
    assert project.sql(f"SELECT count(*) FROM {relation}") == [(documents,)]
    stamps = project.sql(f"SELECT id, embedded_at FROM {relation} ORDER BY 1")
    vecmig("upgrade", "head", "--until", "gate")
    assert project.sql(f"SELECT id, embedded_at FROM {relation} ORDER BY 1") == stamps
    gone = vecmig("downgrade", "-1", "--discard")
    assert "its vectors are gone" in gone.stderr
    assert project.sql("SELECT to_regclass(%s) IS NULL", relation) == [(True,)]
    assert project.sql("SELECT tag, state FROM vecmig.tag") == [(OLD_TAG, "live")]
    refused = vecmig("downgrade", "base", "--discard", code=2)
    assert refused.stderr.splitlines()[-3:] == [
        "--discard is for a revision that was never live; aaaa is live.",
        "Nothing was changed.",
        "Run it without --discard: the vectors are kept, and going forward again is instant.",
    ]
    assert vecmig("status", "--json").json["current"] == ["aaaa"]
    vecmig("upgrade", "--release")
    vecmig("downgrade", "-1")
    was_live = vecmig("downgrade", "aaaa", code=0)
    assert was_live.stdout == "Nothing to do: the database is there already.\n"


@pytest.mark.parametrize("command", ["ensure_version", "ensure-version"])
def test_ensure_version(project: Project, vecmig: Vecmig, command: str) -> None:
    assert vecmig(command).stdout == f"vecmig's schema, version {VERSION}: installed\n"
    assert vecmig(command).stdout == f"vecmig's schema, version {VERSION}: is there already\n"


def test_current_and_check_on_the_way(project: Project, documents: int, vecmig: Vecmig) -> None:
    assert vecmig("current").stdout == ""
    assert vecmig("current", "--check-heads").stdout == "", "no revisions: at all of no heads"
    asked = vecmig("check", code=4)
    assert asked.stderr == (f"documents reads no tag, and collections.yaml asks for {OLD_TAG}.\nRun: vecmig revision\n")
    script(project, "aaaa", OLD_TAG)
    assert vecmig("check", "--json", code=4).json == {
        "pending": True,
        "revisions": ["aaaa"],
        "collections": [{"name": "documents", "live": None, "wanted": OLD_TAG}],
        "problems": [],
        "conflicts": [],
    }
    assert vecmig("check", code=4).stderr == "Revisions are pending: aaaa.\nRun: vecmig upgrade head\n"
    behind = vecmig("current", "--check-heads", code=4)
    assert behind.stderr == "The database is not at all heads.\nRun: vecmig upgrade head\n"
    vecmig("upgrade")
    assert vecmig("current", "--check-heads").stdout == "aaaa  live (head)  revision aaaa\n"
    assert vecmig("check").stdout == "Nothing is pending.\n"
    assert vecmig("check", "--json").json == {
        "pending": False,
        "revisions": [],
        "collections": [],
        "problems": [],
        "conflicts": [],
    }
    assert vecmig("upgrade").stdout == "Nothing to do: the database is there already.\n"
    assert vecmig("upgrade", "aaaa").stdout == "Nothing to do: the database is there already.\n"
    assert vecmig("current", "-v").stdout.splitlines()[1] == f"    documents: no tag → {OLD_TAG}"
    assert [row["phase"] for row in vecmig("current", "--json").json] == ["live"]


def test_stamp(project: Project, documents: int, vecmig: Vecmig) -> None:
    script(project, "aaaa", OLD_TAG)
    refused = vecmig("stamp", "head", code=2)
    assert refused.stderr == (
        f"The database is not there: documents reads no tag, and the stamp would say {OLD_TAG}.\n"
        "Nothing was changed.\n"
        "stamp records what is already true. To move the database, run vecmig upgrade or downgrade.\n"
    )
    assert vecmig("current").stdout == ""
    vecmig("upgrade")
    assert vecmig("stamp", "head").stdout == "Nothing to do: the ledger says so already.\n"
    assert vecmig("stamp", "base", code=2).stderr.splitlines()[0] == (
        f"The database is not there: documents reads {OLD_TAG}, and the stamp would say no tag."
    )
    # the script gets another id: what stamp is for
    project.versions[0].unlink()
    script(project, "cccc", OLD_TAG)
    lost = vecmig("current", code=2)
    assert lost.stderr.splitlines()[0].startswith("The database has revision aaaa, but no script in ")
    assert vecmig("stamp", "cccc").stdout == "Recorded: cccc, aaaa\n"
    assert vecmig("current").stdout == "cccc  live (head)  revision cccc\n"
    assert vecmig("status", "--check").code == 0
