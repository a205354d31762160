"""An operator has a second tag asked in the background, looks at what differs, and ramps the candidate up."""

from __future__ import annotations

import json
from collections import Counter

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
from support.terminal import in_terminal, plain
from vecmig.reader import Reader

OLD, NEW = tag("hashing", 16), tag("hashing", 64)


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project)
    write_hashing(project, 16, 64)
    describe(project, {"documents": documents_collection(NEW)}, {OLD: local(16), NEW: local(64)})
    script(project, "aaaa", OLD)
    script(project, "bbbb", NEW, old=OLD, down="aaaa")
    vecmig("upgrade", "aaaa")
    vecmig("upgrade", "--until", "index")


#: What ``ready`` stands on.
BEGINNINGS = {"ready": _prepare}


@pytest.fixture
def ready(project: Project) -> Project:
    """A project on OLD whose candidate, NEW, waits for its cutover."""
    return project


def ask(project: Project, count: int, more: str = "") -> Counter[str]:
    """Search as an application does; give how often each tag answered."""
    with Reader.from_config(project.ini) as reader:
        tags = Counter(reader.search("documents", f"subject{n % 7} record {n}{more}", 5)[0].tag for n in range(count))
        while (kept := project.sql("SELECT count(*) FROM vecmig.shadow")[0][0] + reader.shadow_lost) < count:
            assert kept <= count
            if not reader._own.shadow._thread:
                break
    return tags


def test_route_shows_shadows_and_ramps(ready: Project, vecmig: Vecmig) -> None:
    assert vecmig("route", "documents").stdout.splitlines() == [
        "documents    version 1",
        f"  live       {OLD}",
        f"  candidate  {NEW}",
    ]
    shown = vecmig("route", "documents", "--shadow", NEW, "--share", "0.25", "--ramp", "12.5").stdout.splitlines()
    assert shown == [
        "documents    version 2",
        f"  live       {OLD}",
        f"  candidate  {NEW}",
        "  ramp       12.5 % of the searches through readers are served by the candidate",
        f"  shadow     25 % of the searches also ask {NEW}; queries are not kept as text",
    ]
    assert vecmig("route", "documents", "--json").json == {
        "collection": "documents",
        "live": OLD,
        "standby": None,
        "candidate": NEW,
        "version": 2,
        "keep_queries": False,
        "shadow_tag": NEW,
        "shadow_share": 0.25,
        "ramp_share": 0.125,
    }
    assert "This is no cutover" in vecmig("route", "documents", "--ramp", "100").stderr
    assert ask(ready, 20) == {NEW: 20}
    assert vecmig("status", "--json").json["collections"][0]["live_tag"] == OLD
    assert ready.sql("SELECT DISTINCT tag FROM documents_live") == [(OLD,)]
    (found,) = vecmig("status", "--json").json["collections"]
    assert (found["ramp_share"], found["shadow_tag"], found["shadow_share"]) == (1, NEW, 0.25)
    lines = vecmig("status").stdout.splitlines()
    assert f"  ramp 100 % of searches to {NEW}" in lines
    assert f"  shadow 25 % of searches ask {NEW} too" in lines
    vecmig("route", "documents", "--ramp", "0", "--no-shadow")
    (found,) = vecmig("status", "--json").json["collections"]
    assert (found["ramp_share"], found["shadow_tag"], found["shadow_share"]) == (0, None, 0)
    assert not any(line.startswith(("  ramp", "  shadow")) for line in vecmig("status").stdout.splitlines())
    assert len(vecmig("route", "documents").stdout.splitlines()) == 3
    events = ready.sql("SELECT data FROM vecmig.event WHERE kind = 'route' ORDER BY id")
    assert [row[0]["ramp_share"] for row in events] == [0.125, 1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shadow", OLD], f"{OLD} is the live tag of documents: it answers every search anyway."),
        (["--shadow", "x"], "'x' is not a tag."),
        (["--share", "0.5"], "No other tag is asked too, so there is nothing to share or keep."),
        (["--no-shadow", "--share", "0.5"], "--no-shadow ends what --shadow, --share and --keep-queries are about."),
        (["--ramp", "110"], "--ramp 110 is not a percentage from 0 to 100."),
    ],
)
def test_what_does_not_fit_is_a_usage_error(ready: Project, vecmig: Vecmig, options: list[str], message: str) -> None:
    assert vecmig("route", "documents", *options, code=2).stderr.splitlines()[0] == message


def test_the_ramp_says_which_coverage_it_asks_for(ready: Project, vecmig: Vecmig) -> None:
    ready.sql("UPDATE documents SET body = body || ' edited' WHERE id = 7")
    refused = vecmig("route", "documents", "--ramp", "10", code=2).stderr.splitlines()
    assert refused == [
        f"{NEW} covers 97.5 % of the records of documents, and the gate of its revision bbbb asks for 99.5 %.",
        "Nothing was changed: the live tag answers all searches.",
        "Run: vecmig backfill",
    ]


def test_compare_says_what_differs_and_that_it_is_not_quality(
    ready: Project, vecmig: Vecmig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vecmig("compare", "documents").stdout.splitlines() == [
        "No search of documents was asked of two tags yet.",
        "Begin: vecmig route documents --shadow TAG",
    ]
    assert vecmig("compare", "documents", "--json").json == []
    vecmig("route", "documents", "--shadow", NEW, "--share", "1", "--keep-queries")
    assert ask(ready, 40) == {OLD: 40}
    lines = vecmig("compare", "documents", "--worst", "3").stdout.splitlines()
    assert lines[:2] == [f"live   {OLD}", f"other  {NEW}"]
    assert lines[2].startswith("40 searches of 40 queries, 20")
    assert [line.split("  ")[0] for line in lines[5:8]] == ["overlap@5", "rank-biased overlap", "another first answer"]
    assert lines[-2:] == [
        "Overlap measures difference, not quality: how far the two tags answer alike,",
        "not which answers better. For that run: vecmig eval",
    ]
    assert sum("subject" in line for line in lines) <= 3
    assert max(map(len, lines)) <= 80
    (found,) = vecmig("compare", "documents", "--json", "--worst", "0").json
    assert (found["live_tag"], found["other_tag"], found["samples"], found["questions"]) == (OLD, NEW, 40, 40)
    assert set(found["overlap"]) == {"value", "low", "high"}
    assert found["errors"] == {}
    assert found["worst"] == []


def test_compare_uses_the_width_that_is_there(ready: Project, vecmig: Vecmig) -> None:
    vecmig("route", "documents", "--shadow", NEW, "--share", "1", "--keep-queries")
    more = " of the shipment that came in from the harbour on a rainy day, and of nothing else"
    ask(ready, 40, more)
    assert any(line.endswith(more) for line in vecmig("compare", "documents").stdout.splitlines())
    assert more in plain(in_terminal(ready, "compare", "documents", columns=200))
    narrow = plain(in_terminal(ready, "compare", "documents", columns=80)).splitlines()
    questions = [line for line in narrow if line.endswith("…")]
    assert {len(line) for line in questions} == {80}


def test_search_takes_a_condition(ready: Project, vecmig: Vecmig) -> None:
    found = vecmig(
        "search", "documents", "record", "--where", "id < %s AND title LIKE 'title%%'", "--param", "4", "--json"
    ).json
    assert sorted(hit["key"][0] for hit in found) == [1, 2, 3]
    refused = vecmig("search", "documents", "record", "--where", "id < %s", code=2)
    assert refused.stderr == "where has 1 placeholder, and 0 values came with it.\n"
    assert json.dumps(found)


@pytest.mark.parametrize("reads", [("--shadow", NEW, "--share", "1"), ("--ramp", "100")], ids=["shadow", "ramp"])
def test_the_command_search_is_no_search_of_the_application(
    ready: Project, vecmig: Vecmig, reads: tuple[str, ...]
) -> None:
    vecmig("route", "documents", *reads)
    for _ in range(3):
        assert {hit["tag"] for hit in vecmig("search", "documents", "record", "--json").json} == {OLD}
    assert {hit["tag"] for hit in vecmig("search", "documents", "record", "--tag", NEW, "--json").json} == {NEW}
    assert ready.sql("SELECT count(*) FROM vecmig.shadow") == [(0,)]
