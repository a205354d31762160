"""Which revisions an upgrade runs, and which it passes by."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vecmig.ledger.phases import Hold, RevisionRow
from vecmig.runner.passing import UpgradePath, pass_by
from vecmig.script import Script
from vecmig.script.graph import Graph, Revision

NOW = datetime(2026, 11, 27, 3, 12, tzinfo=UTC)
HOLD = Hold(NOW, "ada on ci-7", "recall fell")


def _script(
    id_: str, down: str | None, old: str | None = None, new: str | None = None, *, of: str = "a", after: str = ""
) -> Script:
    revision = Revision(id_, (down,) if down else (), (), (after,) if after else ())
    return Script(revision, Path(f"{id_}.py"), id_, of if new else None, old, new, None, "")


def _row(script: Script) -> RevisionRow:
    named = script.id, script.collection, script.old_tag, script.new_tag
    return RevisionRow(*named, "indexed", "", NOW, NOW, NOW, HOLD)


def _walk(path: list[Script], *held: str, release: bool = False, below: tuple[Script, ...] = ()) -> UpgradePath:
    rows: Mapping[str, RevisionRow] = {s.id: _row(s) for s in path if s.id in held}
    graph = Graph([s.revision for s in (*below, *path)])
    return pass_by(path, rows, graph, release=release)


def _ids(path: UpgradePath) -> list[str]:
    return [script.id for script in path.steps]


def _why(path: UpgradePath) -> dict[str, str]:
    return {one.revision: one.words for one in path.passed}


FIRST = _script("r1", None, None, "A")
SECOND = _script("r2", "r1", "A", "B")


def test_a_revision_on_hold_is_passed_by_and_says_since_when_by_whom_and_why() -> None:
    path = _walk([SECOND], "r2", below=(FIRST,))
    assert _ids(path) == []
    assert path.passed[0].outcome == "on hold"
    said = "since 2026-11-27 03:12 UTC by ada on ci-7: recall fell; to go forward: vecmig release r2"
    assert _why(path) == {"r2": said}


def test_a_release_takes_it_forward() -> None:
    assert _ids(_walk([SECOND], "r2", release=True, below=(FIRST,))) == ["r2"]


def test_what_starts_from_its_tag_waits_for_it() -> None:
    third, fourth = _script("r3", "r2", "B", "C"), _script("r4", "r3", "C", "D")
    path = _walk([SECOND, third, fourth], "r2", below=(FIRST,))
    assert _ids(path) == []
    assert [(one.revision, one.waits_for) for one in path.passed] == [("r2", ""), ("r3", "r2"), ("r4", "r2")]


def test_a_revision_that_starts_from_the_live_tag_goes_past_it() -> None:
    third, fourth = _script("r3", "r2", "A", "C"), _script("r4", "r3", "C", "D")
    assert _ids(_walk([SECOND, third, fourth], "r2", below=(FIRST,))) == ["r3", "r4"]


def test_what_follows_one_of_the_index_alone_does_not_wait_for_it() -> None:
    index, third = _script("r2", "r1", "A", "A"), _script("r3", "r2", "A", "B")
    assert _ids(_walk([index, third], below=(FIRST,))) == ["r2", "r3"]
    assert _ids(_walk([index, third], "r2", below=(FIRST,))) == ["r3"]
    assert _ids(_walk([FIRST, index, third], "r2")) == ["r1", "r3"]


def test_where_it_never_ran_it_is_passed_by_too() -> None:
    """A fresh database ends at the tag where production does, and pays for no tag on the way that was given up."""
    path = _walk([FIRST, SECOND, _script("r3", "r2", "A", "C")])
    assert _ids(path) == ["r1", "r3"]
    assert _why(path) == {"r2": "r3 starts from the same tag"}


def test_several_that_were_given_up_are_passed_by() -> None:
    third, fourth = _script("r3", "r2", "B", "C"), _script("r4", "r3", "A", "D")
    assert _ids(_walk([FIRST, SECOND, third, fourth])) == ["r1", "r4"]
    assert _ids(_walk([SECOND, third, fourth], "r2", "r3", below=(FIRST,))) == ["r4"]


def test_a_tag_that_comes_back_is_no_reason_to_pass_anything_by() -> None:
    path = [FIRST, SECOND, _script("r3", "r2", "B", "A"), _script("r4", "r3", "A", "C")]
    assert _ids(_walk(path)) == ["r1", "r2", "r3", "r4"]


def test_two_heads_of_a_collection_do_not_replace_each_other() -> None:
    assert _ids(_walk([FIRST, SECOND, _script("r3", "r1", "A", "C")])) == ["r1", "r2", "r3"]


def test_two_first_tags_do_not_replace_each_other() -> None:
    """They are a mistake in a script, which the check of the chain tells of."""
    assert _ids(_walk([FIRST, _script("r2", "r1", None, "B")])) == ["r1", "r2"]


def test_a_tag_that_leads_nowhere_is_left_to_the_check_of_the_chain() -> None:
    assert _ids(_walk([FIRST, SECOND, _script("r3", "r2", "X", "C")])) == ["r1", "r2", "r3"]


def test_statements_behind_it_wait_for_it() -> None:
    path = _walk([SECOND, _script("e", "r2")], "r2", below=(FIRST,))
    assert _ids(path) == []
    assert path.passed[1].waits_for == "r2"


def test_what_rests_on_statements_on_hold_waits_for_them() -> None:
    statements, third = _script("e", "r2"), _script("r3", "e", "B", "C")
    other = _script("p1", "r3", None, "A", of="p")
    path = _walk([statements, third, other], "e", below=(FIRST, SECOND))
    assert _ids(path) == []
    assert [one.waits_for for one in path.passed] == ["", "e", "e"]


def test_what_a_revision_on_hold_has_replaced_stays_passed_by() -> None:
    """A rollback of the replacement leads to no tag that was given up before."""
    path = _walk([SECOND, _script("r3", "r2", "A", "C")], "r3", below=(FIRST,))
    assert _ids(path) == []
    assert [one.outcome for one in path.passed] == ["passed by", "on hold"]
    assert _ids(_walk([SECOND], below=(FIRST,))) == ["r2"], "asked for by its name it runs"


def test_statements_that_something_which_runs_rests_on_run() -> None:
    path = _walk([SECOND, _script("e", "r2"), _script("r3", "e", "A", "C")], "r2", below=(FIRST,))
    assert _ids(path) == ["e", "r3"]


def test_another_collection_goes_on() -> None:
    other = _script("p1", "r2", None, "A", of="p")
    assert _ids(_walk([SECOND, other], "r2", below=(FIRST,))) == ["p1"]


def test_what_depends_on_it_waits_for_it() -> None:
    other = _script("p1", None, None, "A", of="p", after="r2")
    path = _walk([SECOND, other], "r2", below=(FIRST,))
    assert _ids(path) == []
    assert [one.waits_for for one in path.passed] == ["", "r2"]


def test_what_depends_on_one_that_goes_past_it_runs() -> None:
    third = _script("r3", "r2", "A", "C")
    other = _script("p1", None, None, "A", of="p", after="r3")
    assert _ids(_walk([SECOND, third, other], "r2", below=(FIRST,))) == ["r3", "p1"]


def test_what_depends_on_one_that_waits_waits_too() -> None:
    third = _script("r3", "r2", "B", "C")
    other, after = _script("p1", None, None, "A", of="p", after="r3"), _script("p2", "p1", "A", "B", of="p")
    path = _walk([SECOND, third, other, after], "r2", below=(FIRST,))
    assert _ids(path) == []
    assert {one.revision: one.waits_for for one in path.passed if not one.hold} == {"r3": "r2", "p1": "r2", "p2": "r2"}


@given(held=st.sets(st.integers(0, 7)), count=st.integers(1, 8))
def test_what_runs_of_a_line_is_what_lies_below_the_first_on_hold(held: set[int], count: int) -> None:
    line = [_script(f"r{n}", f"r{n - 1}" if n else None, f"T{n - 1}" if n else None, f"T{n}") for n in range(count)]
    path = _walk(line, *(f"r{n}" for n in held))
    first = min((n for n in held if n < count), default=count)
    assert _ids(path) == [f"r{n}" for n in range(first)]
    assert {one.revision for one in path.passed} == {f"r{n}" for n in range(first, count)}
    assert all(one.stays for one in path.passed)
