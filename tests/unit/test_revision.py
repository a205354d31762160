"""The graph by example: names, paths, and the sentences of its errors; the oracle test covers what is not here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from vecmig.errors import ScriptError
from vecmig.script.errors import (
    AmbiguousRevision,
    AmbiguousStep,
    CycleDetected,
    DuplicateLabel,
    DuplicateRevision,
    InvalidName,
    MissingRevision,
    MultipleHeads,
    NotApplied,
    NotInRange,
    NotOnBranch,
    OutOfRange,
    OverlappingTargets,
    UnknownBranch,
    UnknownCurrent,
    UnknownRevision,
)
from vecmig.script.graph import Revision
from vecmig.script.revision import RevisionMap

#         ┌─ mail1 ── mail2        (label mail)
# first ──┤                  ╲ depends_on
#         └─ docs1 ── docs2 ── docs3   (label docs)
FORKED = (
    Revision("first"),
    Revision("mail1", ("first",), ("mail",)),
    Revision("mail2", ("mail1",)),
    Revision("docs1", ("first",), ("docs",)),
    Revision("docs2", ("docs1",)),
    Revision("docs3", ("docs2",), depends_on=("mail2",)),
)
LINE = (Revision("aaaa1"), Revision("aaab2", ("aaaa1",)), Revision("cccc3", ("aaab2",)))


def graph(revisions: Iterable[Revision] = FORKED) -> RevisionMap:
    """Give a map that loads these revisions."""
    return RevisionMap(lambda: revisions)


def ids(revisions: Iterable[Revision]) -> str:
    """Give the ids on one line."""
    return " ".join(revision.id for revision in revisions)


def test_nothing_is_loaded_before_it_is_needed() -> None:
    loaded: list[str] = []

    def load() -> Iterator[Revision]:
        loaded.append("once")
        yield from LINE

    lazy = RevisionMap(load)
    assert loaded == []
    assert (lazy.heads, lazy.bases) == (("cccc3",), ("aaaa1",))
    assert loaded == ["once"]


def test_heads_bases_and_branch_points() -> None:
    forked = graph()
    assert forked.heads == ("mail2", "docs3")
    assert forked.real_heads == ("docs3",)
    assert forked.bases == ("first",)
    assert forked.branch_points == ("first",)


def test_a_label_covers_its_branch_and_not_the_fork_below() -> None:
    forked = graph()
    assert forked.labels("docs3") == {"docs"}
    assert forked.labels("mail1") == {"mail"}
    assert forked.labels("first") == frozenset()


def test_a_label_covers_the_line_that_leads_to_it() -> None:
    line = graph((Revision("one"), Revision("two", ("one",)), Revision("three", ("two",), ("docs",))))
    assert line.labels("one") == {"docs"}


def test_an_empty_project() -> None:
    empty = graph(())
    assert empty.heads == ()
    assert empty.history() == ()
    assert empty.get("head") is None
    assert empty.upgrade_path("heads") == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docs2", "docs2"),
        ("fir", "first"),
        ("docs@head", "docs3"),
        ("mail@head", "mail2"),
        ("heads", "docs3"),
        ("docs@heads", "docs3"),
        ("docs", "docs1"),
        ("docs@-1", "docs2"),
        ("-2", "docs1"),
        ("base", ""),
        ("docs@base", ""),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert ids(graph().find(name)) == expected


@pytest.mark.parametrize(
    ("target", "current", "expected"),
    [
        ("heads", [], "first mail1 mail2 docs1 docs2 docs3"),
        ("docs@head", [], "first mail1 mail2 docs1 docs2 docs3"),
        ("mail@head", [], "first mail1 mail2"),
        ("+1", [], "first"),
        ("docs@+1", ["first"], "docs1"),
        ("docs@+2", ["mail2"], "docs1 docs2"),
        ("docs1+1", ["mail2"], "docs1 docs2"),
        ("docs3-1", ["first"], "docs1 docs2"),
        ("first", ["docs2"], ""),
        ("base", ["docs2"], ""),
        (("mail1", "docs1"), ["first"], "docs1 mail1"),
    ],
)
def test_upgrade_path(target: str | tuple[str, ...], current: list[str], expected: str) -> None:
    assert ids(graph().upgrade_path(target, current)) == expected


@pytest.mark.parametrize(
    ("target", "current", "again", "expected"),
    [
        ("heads", ["docs3"], ["mail1"], "mail1"),
        ("heads", ["docs3"], ["mail1", "docs2"], "docs2 mail1"),
        ("heads", ["docs2"], ["first", "docs1"], "first docs1 mail1 mail2 docs3"),
        ("mail1", ["docs3"], ["first", "docs2"], "first"),
        ("base", ["docs3"], ["first"], ""),
    ],
)
def test_upgrade_path_begins_below_the_heads(target: str, current: list[str], again: list[str], expected: str) -> None:
    assert ids(graph().upgrade_path(target, current, again=again)) == expected


@pytest.mark.parametrize(
    ("target", "current", "expected"),
    [
        ("-1", ["docs3"], "docs3"),
        ("base", ["docs3"], "docs3 docs2 docs1 mail2 mail1 first"),
        ("docs@base", ["docs1"], "docs1 first"),
        ("first", ["mail2", "docs2"], "mail2 mail1 docs2 docs1"),
        ("docs@first", ["mail2", "docs2"], "docs2 docs1"),
        ("docs@-1", ["mail2", "docs2"], "docs2"),
        ("mail1", ["docs3"], "docs3 mail2"),
        ("docs2", ["docs2"], ""),
    ],
)
def test_downgrade_path(target: str, current: list[str], expected: str) -> None:
    assert ids(graph().downgrade_path(target, current)) == expected


def test_history_and_ranges() -> None:
    forked = graph()
    assert ids(forked.history()) == "docs3 docs2 docs1 mail2 mail1 first"
    assert ids(forked.history("docs1", "docs@head")) == "docs3 docs2 docs1"
    assert ids(forked.history("docs1", ("docs2",))) == "docs2 docs1"
    assert ids(graph(LINE).history("-1")) == "cccc3 aaab2"


def test_current_heads_of_what_is_applied() -> None:
    forked = graph()
    assert forked.current_heads(["first", "mail1", "docs1"]) == ("mail1", "docs1")
    assert forked.current_heads(["first", "mail1", "mail2", "docs1", "docs2", "docs3"]) == ("docs3",)
    assert forked.current_heads([]) == ()
    assert forked.applied(["docs1"]) == {"first", "docs1"}
    assert forked.current_by_branch(["docs3"]) == ("mail2", "docs3")


@pytest.mark.parametrize(
    ("revisions", "error", "message"),
    [
        (
            [Revision("a1", ("gone",), where="a1.py")],
            MissingRevision,
            "a1.py: revision a1 names 'gone' as down_revision, but no script defines it.",
        ),
        (
            [Revision("a1"), Revision("b2", ("a1",), depends_on=("gone",))],
            MissingRevision,
            "revision b2 names 'gone' as depends_on, but no script defines it.",
        ),
        (
            [Revision("a1", where="x.py"), Revision("a1", where="y.py")],
            DuplicateRevision,
            "Revision a1 is defined twice: x.py and y.py.",
        ),
        (
            [Revision("a1", ("b2",)), Revision("b2", ("a1",))],
            CycleDetected,
            "The revisions a1 -> b2 -> a1 form a circle by their down_revision.",
        ),
        (
            [Revision("a1", depends_on=("b2",)), Revision("b2", ("a1",))],
            CycleDetected,
            "The revisions a1 -> b2 -> a1 form a circle by their down_revision or depends_on.",
        ),
        (
            [Revision("a1", branch_labels=("x",)), Revision("b2", branch_labels=("x",))],
            DuplicateLabel,
            "The branch label 'x' of revision b2 is already used by revision a1.",
        ),
        ([Revision("a-1")], InvalidName, "'a-1' cannot be a revision id: it contains '-'."),
        ([Revision("head")], InvalidName, "'head' cannot be a revision id: the word has a meaning of its own."),
        ([Revision("a1", branch_labels=("x@y",))], InvalidName, "'x@y' cannot be a branch label: it contains '@'."),
    ],
)
def test_damaged_graphs(revisions: list[Revision], error: type[ScriptError], message: str) -> None:
    with pytest.raises(error) as caught:
        _ = graph(revisions).heads
    assert caught.value.message == message
    assert caught.value.exit_code == 2


def test_two_heads_name_the_command_that_joins_them() -> None:
    two = graph((Revision("aaaa"), Revision("bbbb")))
    with pytest.raises(MultipleHeads) as caught:
        two.upgrade_path("head")
    assert caught.value.heads == ("aaaa", "bbbb")
    assert caught.value.message == "'head' is ambiguous: there are 2 heads, aaaa, bbbb."
    assert "vecmig merge heads" in caught.value.hint


def test_names_that_lead_nowhere() -> None:
    forked = graph()
    with pytest.raises(UnknownRevision, match="There is no revision or branch 'nope'"):
        forked.get("nope")
    with pytest.raises(UnknownBranch, match="There is no branch 'nope'"):
        forked.find("nope@head")
    with pytest.raises(NotOnBranch, match="Revision mail1 is not on the branch 'docs'"):
        forked.get("docs@mail1")
    with pytest.raises(AmbiguousRevision, match="'aaa' could be aaaa1, aaab2"):
        graph(LINE).get("aaa")
    with pytest.raises(UnknownRevision):
        forked.get("")


def test_targets_that_lead_nowhere() -> None:
    forked = graph()
    with pytest.raises(AmbiguousStep, match="docs1"):
        forked.upgrade_path("+1", ["first"])
    with pytest.raises(OutOfRange, match=r"'\+2' leads nowhere: it leads beyond"):
        forked.upgrade_path("+2", ["mail1"])
    with pytest.raises(OutOfRange, match="'-1' leads nowhere: an upgrade goes forward"):
        forked.upgrade_path("-1", ["first"])
    with pytest.raises(OutOfRange, match="nothing is applied"):
        forked.downgrade_path("-1", [])
    with pytest.raises(AmbiguousStep, match="mail1@-1, docs1@-1"):
        forked.downgrade_path("-1", ["mail1", "docs1"])
    with pytest.raises(NotApplied, match="cannot lead to 'docs2': it is not below the current revision, mail1"):
        forked.downgrade_path("docs2", ["mail1"])
    with pytest.raises(NotInRange, match="Revision docs3 is not an ancestor of docs1"):
        forked.history("docs3", "docs1")
    # too far from alone, and not from cccc3
    with pytest.raises(NotInRange, match="Revision -2 is not an ancestor of alone"):
        graph((Revision("alone"), *LINE)).history("-2", "alone")
    with pytest.raises(OverlappingTargets, match="Revision docs2 already includes docs1"):
        forked.upgrade_path(("docs1", "docs2"))


def test_a_database_at_an_unknown_revision() -> None:
    with pytest.raises(UnknownCurrent, match="The database is at revision 'gone', which no script here defines"):
        graph().upgrade_path("heads", ["gone"])


def test_a_long_line_is_walked_in_linear_time() -> None:
    line = [Revision("r0"), *(Revision(f"r{n}", (f"r{n - 1}",)) for n in range(1, 3000))]
    long = graph(line)
    assert len(long.upgrade_path("head")) == 3000
    assert ids(long.downgrade_path("-2", ["r2999"])) == "r2999 r2998"
