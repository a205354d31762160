"""Each kind of event is told in words with its figures, and one that is not known as it was written."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.source import ROOT
from vecmig.cli.events import Page, event_json, since_of
from vecmig.errors import UsageError
from vecmig.ledger.failures import FAILED, SUCCEEDED
from vecmig.ledger.rows import EventRow
from vecmig.model.tag import short_name
from vecmig.wording.events import _WORDS, sources, what, who

A, B = "toy@1/dim-64/chunk-none/norm-l2", "toy@1/dim-256/chunk-none/norm-l2"
AT = datetime(2026, 11, 26, 3, 12, 4, tzinfo=UTC)


def event(kind: str, tag: str | None = B, collection: str | None = "articles", **more: Any) -> EventRow:
    own: dict[str, Any] = {"revision": None, "role": "app", "host": "ci-7", "git_commit": None, "version": "0.1.0"}
    own |= {name: more.pop(name) for name in list(more) if name in own}
    data = more.pop("data", None) or more
    return EventRow(id=7, at=AT, kind=kind, collection=collection, tag=tag, data=data, **own)


def said(event: EventRow) -> str:
    return what(event, lambda tag: short_name(tag, (A, B)))


TOLD: list[tuple[EventRow, str]] = [
    (event("expand", dims=256, fingerprint="f"), "expanded for toy/dim-256: 256 dimensions"),
    (
        event("adopt", adopted=7500, written=96, rejected=0, seconds=3.0, coverage=1.0, home="partition"),
        "adopted for toy/dim-256: 7,500 vectors copied in 3 s (2,500/s), 96 records embedded, coverage 100 %",
    ),
    (
        event("backfill", written=7596, rejected=3, seconds=12.0, coverage=0.99996),
        "backfilled toy/dim-256: 7,596 records embedded in 12 s (633/s), 3 rejected, coverage 99.99 %",
    ),
    (
        event("backfill", written=0, rejected=0, seconds=0.1, coverage=1.0),
        "backfilled toy/dim-256: 0 records embedded in 0.1 s, coverage 100 %",
    ),
    (
        event("import", records=7000, texts=6900, unknown=12, vectors=6912, seconds=2.0, coverage=0.9215),
        "imported for toy/dim-256: vectors for 7,000 records in 2 s (3,500/s), coverage 92.15 %",
    ),
    (
        event("index", bytes=1048576, vectors=1, memory_mb=64, workers=0, seconds=2.0),
        "index of toy/dim-256 built: 1 vector, 1 MB in 2 s",
    ),
    (event("index", bytes=1048576), "index of toy/dim-256 found: 1 MB"),
    (
        event("cutover", data={"from": A, "gate": {"coverage": 1.0, "index": "valid"}}),
        "cutover: reads moved from toy/dim-64 to toy/dim-256, at a coverage of 100 %",
    ),
    (event("cutover", data={"from": None, "gate": {}}), "cutover: reads moved from no tag to toy/dim-256"),
    (
        event("rollback", to=A, reason="answers are\nworse"),
        "rollback: reads moved from toy/dim-256 back to toy/dim-64: answers are worse",
    ),
    (event("rollback", to=None), "rollback: reads moved from toy/dim-256 back to no tag"),
    (
        event("reindex", **{"from": "an index of vector"}, to="an index of bit, rerank 20", gate={}),
        "cutover: searches of toy/dim-256 go by an index of bit, rerank 20, before by an index of vector",
    ),
    (
        event("reindex", **{"from": "an index of bit"}, to="an index of vector", back=True, reason="slower"),
        "rollback: searches of toy/dim-256 go by an index of vector, before by an index of bit: slower",
    ),
    (event("expand", index={"type": "bit"}), "began another index of toy/dim-256"),
    (event("abandon", discarded=False), "abandoned toy/dim-256, its vectors kept"),
    (event("abandon", discarded=True, reason="too dear"), "abandoned toy/dim-256, its vectors discarded: too dear"),
    (event("hold", None, reason="answers are worse"), "put on hold: answers are worse"),
    (event("release", None), "released from hold"),
    (
        event("failed", None, what="upgrade", error="The key was refused.", exit_code=7),
        "upgrade failed (exit code 7): The key was refused.",
    ),
    (event("succeeded", None, what="sync"), "sync succeeded, after a run that failed"),
    (event("execute", step="upgrade", ordinal=2, sha256="0"), "ran statement 2 of upgrade()"),
    (event("apply", None, None), "applied a revision without a collection"),
    (event("downgrade", None, None), "rolled back a revision without a collection"),
    (event("take back", None, None), "rolled back a revision without a collection"),
    (event("stamp", None, None, target="head", changed=["r1", "r2"]), "stamped as at head; changed: r1, r2"),
    (event("stamp", None, None, target="head", changed=[]), "stamped as at head; changed: nothing"),
    (
        event("retire", vectors=10, records=5, bytes=2048, index_bytes=1024, reason="old", usd=0.1),
        "retired toy/dim-256: 10 vectors of 5 records, 2 kB: old",
    ),
    (
        event("retire", vectors=10, records=5, bytes=2048, reason=None),
        "retired toy/dim-256: 10 vectors of 5 records, 2 kB",
    ),
    (event("retired", bytes_freed=2048), "vectors of toy/dim-256 dropped: 2 kB freed"),
    (event("forget_batches", None, batches=["batch-1", None], texts=60), "no longer on order: 60 texts"),
    (event("retry", None, records=1), "to be tried again: 1 rejected record"),
    (
        event("route", shadow_tag=A, shadow_share=0.05, keep_queries=True, ramp_share=0.1),
        "route: 5 % of searches ask toy/dim-64 too, and are kept; the candidate serves 10 % of searches",
    ),
    (
        event("route", None, shadow_tag=None, shadow_share=0.0, keep_queries=False, ramp_share=0.0),
        "route: no shadow reads, no ramp",
    ),
    (
        event("sync", written=3, rejected=1, coverage=1.0),
        "synced toy/dim-256: 3 records embedded, 1 rejected, coverage 100 %",
    ),
    (event("sync", written=0, rejected=1), "synced toy/dim-256: 0 records embedded, 1 rejected"),
    (event("follow", None), "triggers and live view followed collections.yaml or the source"),
    (
        event("follow", None, made_good=["the live view is gone", "a trigger is gone"]),
        "made good: the live view is gone; a trigger is gone",
    ),
    (event("move", None, data={"from": "public", "to": "vecmig"}), "vectors moved from schema public to vecmig"),
    (event("view_detach", None), "live view detached"),
    (event("view_attach", None), "live view attached"),
    (
        event("adopt-source", None, data={"from": "public.a", "to": "public.b"}),
        "source adopted: public.b in place of public.a",
    ),
    (event("adopt-source", None, data={"from": None, "to": "public.b"}), "source adopted: public.b"),
    (event("untrack", None, triggers=["x on y"]), "untracked: 1 trigger dropped"),
    (
        event("uninstall", None, pieces=["view v"], tags=[{"tag": A, "vectors": 7}, {"tag": B, "vectors": 8}], usd=0.0),
        "uninstalled: 2 tags with 15 vectors, 1 object",
    ),
    (event("pause", None, reason="the site is slow"), "paused: the site is slow"),
    (event("pause", None), "paused"),
    (event("resume", None), "resumed"),
    (event("tune", None, concurrency=4, max_rate=None), "tuned: concurrency 4, max-rate none"),
    (event("tune", None, concurrency=None), "tuned: concurrency default"),
]


@pytest.mark.parametrize(("happened", "text"), TOLD, ids=[happened.kind for happened, _ in TOLD])
def test_what_happened(happened: EventRow, text: str) -> None:
    assert said(happened) == text


def test_every_kind_that_is_written_anywhere_has_words_and_a_test() -> None:
    python = [path.read_text(encoding="utf-8") for path in (ROOT / "vecmig").rglob("*.py")]
    sql = [path.read_text(encoding="utf-8") for path in (ROOT / "vecmig").rglob("*.sql")]
    patterns = r'record_event\(\s*"([\w -]+)"', r'self\.record\(ledger, "([\w -]+)"', r'_write\(config, \w+, "(\w+)"'
    written = {kind for text in python for pattern in patterns for kind in re.findall(pattern, text)}
    written |= {FAILED, SUCCEEDED}
    written |= {kind for text in sql for kind in re.findall(r"INTO \{schema\}\.event [^;]*VALUES \('(\w+)'", text)}
    assert {"expand", "cutover", "pause", "view_detach", "view_attach", "retired", "sync"} <= written
    assert written <= set(_WORDS), "say in wording/events.py what happened"
    assert set(_WORDS) == {happened.kind.replace(" ", "_") for happened, _ in TOLD}


@pytest.mark.parametrize(
    ("happened", "text"),
    [
        (event("teleport", colour="blau"), 'teleport toy/dim-256 {"colour": "blau"}'),
        (event("teleport", None), "teleport"),
        (event("cutover", other=1), 'cutover toy/dim-256 {"other": 1}'),
        (event("backfill", written="many", seconds=1), 'backfill toy/dim-256 {"written": "many", "seconds": 1}'),
        (event("failed", None, error=["x"]), 'failed {"error": ["x"]}'),
    ],
)
def test_what_is_not_known_is_shown_as_it_was_written(happened: EventRow, text: str) -> None:
    assert said(happened) == text


def test_who_and_from_what() -> None:
    assert who(event("resume")) == "app on ci-7"
    assert who(event("view_attach", host=None, version="SQL")) == "app by SQL"
    assert who(event("resume", host="")) == "app"
    assert sources(event("resume")) == ""
    commit = "1a2b3c4d5e6f7a8b9c0d1a2b3c4d5e6f7a8b9c0d"
    assert sources(event("cutover", revision="7c1e5d0a9b21", git_commit=commit)) == (
        "revision 7c1e5d0a9b21, commit 1a2b3c4"
    )


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("30s", timedelta(seconds=30)),
        ("15m", timedelta(minutes=15)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("99999999w", timedelta(days=36_500)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T03:12", datetime(2026, 11, 20, 3, 12, tzinfo=UTC)),
        ("2026-11-20T03:12+01:00", datetime(2026, 11, 20, 2, 12, tzinfo=UTC)),
    ],
)
def test_since(text: str, since: datetime | timedelta) -> None:
    assert since_of(text) == since


@pytest.mark.parametrize(
    "text", ["", "7", "d", "-7d", "1.5h", "7 d", "7y", "999999999d", "yesterday", "2026-13-01", "2026-11-20T25:00"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="this is no time"):
        since_of(text)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_events_fit_the_terminal_and_one_is_a_line_where_it_fits(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecmig.cli.render.width", lambda: columns)
    page = Page({"articles": (A, B)})
    page.show([event("cutover", data={"from": A, "gate": {"coverage": 1.0}}, revision="7c1e5d0a9b21")])
    page.show([event("resume", None, collection="documents_of_ours")])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    first = "2026-11-26 03:12:04 UTC  app on ci-7  articles"
    told = "cutover: reads moved from toy/dim-64 to toy/dim-256, at a coverage of 100 % (revision 7c1e5d0a9b21)"
    second = "2026-11-26 03:12:04 UTC  app on ci-7  documents_of_ours"
    if columns == 200:
        assert lines == [f"{first}  {told}", f"{second}  resumed"]
    else:
        assert lines[0] == first
        assert " ".join(line.strip() for line in lines[1:-2]) == told
        assert lines[-2:] == [second, "  resumed"]


def test_what_a_row_holds_cannot_command_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Page({}).show([event("pause", None, reason="\x1b[2Jgone", role="a\x07b")])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "paused: \\x1b[2Jgone" in shown


def test_the_documented_json() -> None:
    assert event_json(event("retry", None, None, records=1)) == {
        "id": 7,
        "at": AT,
        "kind": "retry",
        "collection": None,
        "revision": None,
        "tag": None,
        "role": "app",
        "host": "ci-7",
        "git_commit": None,
        "version": "0.1.0",
        "data": {"records": 1},
    }
