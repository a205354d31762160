"""The page says what status says, and whatever stands in the database is text on it, never markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from support.lab import LARGE, SMALL, Lab, recipe
from vecmig import runner
from vecmig.ledger.control import Run, report
from vecmig.ledger.shadows import Shadowed, record
from vecmig.serve.page import page
from vecmig.serve.site import Site

PLANTED = '"><img src=x onerror=alert(1)><script>alert(1)</script>'
#: What begins a text of its own.
BLOCKS = {"p", "h2", "h3", "td", "dt", "dd", "li", "span", "summary"}


class _Elements(HTMLParser):
    """Collects elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text += " " if tag in BLOCKS else ""

    def handle_data(self, data: str) -> None:
        self.text += data


def _html(lab: Lab) -> str:
    return Site(lab.config, every=0).html()


def _words(lab: Lab) -> str:
    return " ".join(_Elements(_html(lab)).text.split())


def test_before_anything_was_done(lab: Lab) -> None:
    shown = _words(lab)
    assert "Nothing is embedded yet: 20 records with a text." in shown
    assert "vecmig upgrade head" in shown


def test_a_source_that_is_not_there_is_told_once(lab: Lab) -> None:
    lab.sql("DROP TABLE documents")
    shown = _words(lab)
    assert shown.count('the source "public"."documents" does not exist in this database.') == 1
    assert "Nothing is embedded yet" not in shown


@pytest.mark.upgraded("r1")
def test_a_candidate_stands_beside_the_live_tag(lab: Lab) -> None:
    lab.upgrade(until="expand")
    lab.backfill(limit=8)
    with lab.database.session() as connection:
        report(connection, "vecmig", Run(lab.name, LARGE, "backfill", done=8, total=20, rate=5, host="h", pid=7))
    shown = _words(lab)
    assert "Searches use toy/dim-64, which has 100 % of 20 records. toy/dim-256 is being filled: 40 %." in shown
    assert "backfill of toy/dim-256 by h pid 7: running, 8 of 20, 5/s, about 2.4 s left" in shown
    assert "r2: not yet; " in shown
    assert "12 of 20 records have no fresh vector" in shown
    assert "Run: vecmig backfill" not in shown, "an upgrade sees to it"


@pytest.mark.upgraded
def test_who_is_at_work_and_which_tag_serves_is_newer_than_what_was_counted(lab: Lab) -> None:
    before = runner.overview(lab.config)
    lab.downgrade()
    (section,) = page(before, runner.pulse(lab.config)).sections
    assert [(tag.short, tag.role) for tag in section.tags] == [("toy/dim-64", "live"), ("toy/dim-256", "kept")]
    assert "Going back" not in str(section.story), "that was another way back"
    assert "something has moved just now" in str(page(before, runner.pulse(lab.config)).next_words)
    shown = page(before, runner.pulse(lab.config)).events
    assert "rollback: reads moved from toy/dim-256 back to toy/dim-64" in str(shown[0]["what"])


@pytest.mark.upgraded
def test_evals_shadow_reads_money_and_a_launch_are_there(lab: Lab) -> None:
    lab.write(
        recipes={LARGE: recipe(LARGE, budget_usd=2.0, price_per_million_tokens=1)},
        chain=(SMALL, LARGE, "toy@1/dim-4/chunk-none/norm-l2"),
    )
    (lab.path / "evals").mkdir()
    queries = "".join(f"  - {{query: 'body {n}', relevant: [{n}]}}\n" for n in range(1, 4))
    (lab.path / "evals" / "few.yaml").write_text(f"collection: documents\nk: 3\nqueries:\n{queries}")
    runner.evaluate(lab.config, ["few"])
    lab.sql("INSERT INTO vecmig.spend (revision, what, tokens, usd) VALUES ('r2', 'backfill', 10, 0.5)")
    lab.script(3, LARGE, "toy@1/dim-4/chunk-none/norm-l2", more=")\nlaunch = __import__('datetime').date(2040, 1, 1")
    with lab.database.session() as connection:
        for n in range(3):
            one = Shadowed(lab.name, LARGE, SMALL, 10, 0.5, 0.7, True, 2.0, 3.0, None, f"hash {n}", f"query {n}")
            record(connection, "vecmig", one)
    lab.sql("UPDATE documents SET body = 'edited' WHERE id = 1")
    shown = _words(lab)
    for text in (
        "few, 3 queries",
        "few, nDCG@3",
        "toy/dim-64 at 100 % coverage → toy/dim-256 at 100 %",
        "too few queries to rely on the intervals",
        "toy/dim-256 and toy/dim-64: 3 searches of 3 queries",
        "query 2",
        "toy/dim-256, backfill: $0.50 of $2.00, 10 tokens",
        "Launch 2040-01-01, in",
        "under 10 s 1",
        "reads lack 1 record, the oldest for",
        "live for 0 days, 21 asked for",
    ):
        assert text in shown, text


@pytest.mark.upgraded
def test_what_stands_in_the_database_is_text(lab: Lab) -> None:
    runner.pause(lab.config, reason=PLANTED)
    with lab.database.session() as connection:
        shadowed = Shadowed(lab.name, LARGE, SMALL, 10, 0.5, 0.7, True, 2.0, 3.0, PLANTED, PLANTED, PLANTED)
        record(connection, "vecmig", shadowed)
        record(connection, "vecmig", replace(shadowed, error=None))
        run = Run(lab.name, LARGE, "backfill", "waiting", PLANTED, host=PLANTED, pid=7, total=9)
        report(connection, "vecmig", run)
    text = f"$x${PLANTED}$x$"
    lab.sql(
        "INSERT INTO vecmig.event (kind, collection, tag, revision, git_commit, version, host, data) VALUES "
        f"('failed', {text}, {text}, {text}, {text}, '1', {text}, jsonb_build_object('what', {text}, 'error', {text})),"
        f"('odd', 'documents', {text}, {text}, {text}, '1', {text}, jsonb_build_object({text}, 1))"
    )
    lab.sql(f"UPDATE vecmig.revision SET hold_reason = {text}, held_at = now(), held_by = 'x'")
    site = Site(lab.config)
    for text in (site.html(), site.report()):
        found = _Elements(text)
        assert found.text.count("<script>alert(1)</script>") >= 8, "it is shown as it is written"
        names = [name for name, _ in found.elements]
        assert "img" not in names
        assert names.count("script") <= 1
        attributes = {name for _, own in found.elements for name in own}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]


@pytest.mark.upgraded
def test_a_report_needs_no_other_file_and_no_script(lab: Lab) -> None:
    text = Site(lab.config).report()
    found = _Elements(text)
    assert not [own for name, own in found.elements if name in ("script", "img", "iframe")]
    assert [own.get("href") for name, own in found.elements if name == "link"] == ["data:,"]
    (policy,) = re.findall(r'content="(default-src[^"]*)"', text)
    assert re.fullmatch(r"default-src 'none'; img-src data:; style-src 'sha256-[\w+/]+='", policy)
    assert "url(" not in text
    assert "Searches use toy/dim-256" in " ".join(found.text.split())


@pytest.mark.upgraded
def test_a_database_that_goes_away_leaves_what_was_seen(lab: Lab) -> None:
    site = Site(lab.config, every=0, pulse_every=0)
    site.html()
    lab.sql("ALTER SCHEMA vecmig RENAME TO elsewhere")
    lab.sql("CREATE SCHEMA vecmig")
    lab.sql("CREATE TABLE vecmig.schema_version AS SELECT 10000 AS version, now() AS installed_at")
    shown = " ".join(_Elements(site.html()).text.split())
    assert "The last look came to nothing" in shown
    assert "What stands here is older" in shown
    assert "Searches use toy/dim-256" in shown


@pytest.mark.upgraded
def test_it_looks_at_the_records_once_however_many_look(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    overview = runner.overview

    def counting(config: object) -> runner.Overview:
        looked.append(config)
        return overview(lab.config)

    monkeypatch.setattr(runner, "overview", counting, raising=False)
    site = Site(lab.config)
    for _ in range(20):
        site.html()
    assert len(looked) == 1
