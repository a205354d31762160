"""``ignore:`` in collections.yaml: what an entry means, what is wrong with one, and what it knows on which day."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from vecmig.config.collections import Collections, load_collections
from vecmig.config.known_findings import KnownFinding
from vecmig.errors import ConfigError
from vecmig.runner import Finding
from vecmig.runner.verbs.audit.known import Ignored, set_apart

REASON = "the old column goes with release 12"
END = date(2027, 1, 31)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to stand in."""
    monkeypatch.chdir(tmp_path)


def load(entries: str) -> Collections:
    path = Path("collections.yaml")
    path.write_text(f"ignore:{entries}")
    return load_collections(path)


def found(kind: str = "untagged vectors", collection: str | None = "a", thing: str = "public.a.embedding") -> Finding:
    return Finding(kind, "warning", collection, None, thing, "7 vectors have no tag.", "Embed them under a tag.")


def entry(until: date = END, **more: str | None) -> KnownFinding:
    return KnownFinding("untagged vectors", REASON, until, 1, **more)


def test_an_entry_has_a_finding_a_reason_and_an_end() -> None:
    told = f"\n- {{finding: untagged vectors, reason: {REASON}, until: 2027-01-31}}"
    more = '\n- {finding: no index, collection: a, object: public.x, reason: "tiny", until: "2027-01-31"}'
    assert load(told + more).ignored == (
        KnownFinding("untagged vectors", REASON, END, 2),
        KnownFinding("no index", "tiny", END, 3, "a", "public.x"),
    )
    assert load(" []").ignored == load("").ignored == ()


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ("\n- {finding: no index, until: 2027-01-31}", "collections.yaml:2: ignore: reason is missing"),
        ("\n- {finding: no index, reason: ' ', until: 2027-01-31}", "collections.yaml:2: ignore: reason: ' ' is not"),
        ("\n- {finding: no index, reason: tiny}", "collections.yaml:2: ignore: until is missing, the last day"),
        ("\n- {finding: no index, reason: tiny, until: never}", "ignore: until: 'never' is not a day like 2027-01-31"),
        ("\n- {finding: no index, reason: tiny, until: 2027-02-30}", "'2027-02-30'"),
        ("\n- {finding: no index, reason: tiny, until: 2027-01-31 10:00:00}", "is not a day like 2027-01-31"),
        ("\n- {reason: tiny, until: 2027-01-31}", "ignore: finding is missing"),
        ("\n- {finding: no index, reason: tiny, untill: 2027-01-31, until: 2027-01-31}", "did you mean until"),
        ("\n- no index", "collections.yaml:2: ignore: 'no index' is no entry like {finding: "),
        (" {finding: no index}", "collections.yaml:1: ignore must be a list like [{finding: "),
    ],
)
def test_what_is_wrong_with_an_entry_is_an_error(entries: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(entries)
    assert problem in refused.value.message


def test_it_is_ignored_to_the_end_of_its_last_day_and_counts_again_after_it() -> None:
    last = set_apart([found()], [entry()], END)
    assert (last.findings, last.ignored, last.ended) == ((), (Ignored(found(), entry()),), ())
    after = set_apart([found()], [entry()], date(2027, 2, 1))
    assert (after.findings, after.ignored, after.ended) == ((found(),), (), (Ignored(found(), entry()),))
    # one that was written anew
    renewed = entry(date(2027, 3, 1))
    both = set_apart([found()], [entry(), renewed], date(2027, 2, 1))
    assert (both.findings, both.ignored, both.unmatched) == ((), (Ignored(found(), renewed),), ())


@pytest.mark.parametrize("other", [entry(collection="b"), entry(object="public.b.embedding")], ids=["b", "object"])
def test_another_collection_or_object_is_not_meant(other: KnownFinding) -> None:
    apart = set_apart([found(), found("no index")], [other], END)
    assert (len(apart.findings), apart.ignored, apart.unmatched) == (2, (), (other,))


def test_an_entry_is_said_to_match_nothing_only_where_it_could() -> None:
    canary = KnownFinding("canary differs", REASON, END, 1)
    of_a, of_b = entry(collection="a"), entry(collection="b")
    assert set_apart([], [canary, of_a, of_b], END).unmatched == (canary, of_a, of_b)
    assert set_apart([], [canary, of_a, of_b], END, ask=False).unmatched == (of_a, of_b)
    assert set_apart([], [entry(), of_a, of_b], END, collections=["a"]).unmatched == (of_a,)
    # one that names no collection knows a finding of each
    assert set_apart([found()], [entry()], END, collections=["a"]).findings == ()
