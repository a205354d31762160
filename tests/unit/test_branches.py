"""Several collections, each on a branch of its own: `head` means each one's head, and steps touch only one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.config import Config
from vecmig.errors import ScriptError
from vecmig.model.gate import Gate
from vecmig.script import ConflictingHeads, MultipleHeads, Revision, Script, ScriptDirectory

COLLECTIONS = ("articles", "notes", "papers", "mail-2", "Größe")


def script(
    id_: str, down: Sequence[str] = (), collection: str | None = None, *, label: str = "", after: Sequence[str] = ()
) -> Script:
    """Make a script that moves a collection, or none."""
    revision = Revision(id_, tuple(down), (label,) if label else (), tuple(after))
    gate = Gate() if collection else None
    return Script(revision, Path(f"{id_}.py"), id_, collection, None, None, gate, "")


def directory(*scripts: Script) -> ScriptDirectory:
    """Open a directory as if it held these scripts, in this order."""
    made = ScriptDirectory(Config(None, "", Path(), (), Path("collections.yaml")))
    made.__dict__["scripts"] = {one.id: one for one in scripts}
    return made


def ids(scripts: Sequence[Script]) -> list[str]:
    """Give the ids."""
    return [one.id for one in scripts]


# Independent branches, whatever they are ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Lines:
    """A line of revisions for each collection, bottom first, loaded in any order; and how far a database is."""

    scripts: tuple[Script, ...]
    lines: dict[str, tuple[str, ...]]
    reached: dict[str, int]

    @property
    def heads(self) -> set[str]:
        return {line[-1] for line in self.lines.values()}

    @property
    def current(self) -> tuple[str, ...]:
        return tuple(line[self.reached[name] - 1] for name, line in self.lines.items() if self.reached[name])

    def left(self, name: str) -> tuple[str, ...]:
        return self.lines[name][self.reached[name] :]


@st.composite
def independent(draw: st.DrawFn) -> Lines:
    """Draw two or more collections, each with a branch of its own; some revisions on it hold statements only."""
    names = draw(st.lists(st.sampled_from(COLLECTIONS), min_size=2, unique=True))
    scripts: list[Script] = []
    lines, reached = {}, {}
    for number, name in enumerate(names):
        moves = [True, *draw(st.lists(st.booleans(), max_size=4))]
        line = tuple(f"{number}aa{step}" for step in range(len(moves)))
        for step, (id_, moving) in enumerate(zip(line, moves, strict=True)):
            labelled = name if step == 0 and draw(st.integers(0, 3)) else ""
            scripts.append(script(id_, line[step - 1 : step], name if moving else None, label=labelled))
        lines[name] = line
        reached[name] = draw(st.integers(0, len(line)))
    return Lines(tuple(draw(st.permutations(scripts))), lines, reached)


@given(independent(), st.sampled_from(["head", "heads"]))
def test_head_is_the_head_of_each_collection(drawn: Lines, target: str) -> None:
    scripts = directory(*drawn.scripts)
    assert scripts.branches.conflicts == ()
    assert scripts.upgrade_command == "vecmig upgrade head"
    assert set(ids(scripts.find(target))) == drawn.heads
    path = ids(scripts.upgrade_path(target, drawn.current))
    for name, line in drawn.lines.items():
        assert [id_ for id_ in path if id_ in line] == list(drawn.left(name)), "each branch in its own order"
    assert set(path) == {id_ for name in drawn.lines for id_ in drawn.left(name)}


@given(independent(), st.data())
def test_one_branch_goes_forward_or_back_alone(drawn: Lines, data: st.DataObject) -> None:
    scripts = directory(*drawn.scripts)
    name = data.draw(st.sampled_from(sorted(drawn.lines)))
    line, reached = drawn.lines[name], drawn.reached[name]
    said = scripts.branches.name(line[-1], scripts.map.heads)
    assert said in (name, line[-1])
    assert ids(scripts.upgrade_path(f"{said}@head", drawn.current)) == list(drawn.left(name))
    if reached:
        back = scripts.branches.name(line[reached - 1], drawn.current)
        steps = data.draw(st.integers(1, reached))
        rolled_back = list(reversed(line[reached - steps : reached]))
        assert ids(scripts.downgrade_path(f"{back}@-{steps}", drawn.current)) == rolled_back
        assert ids(scripts.downgrade_path(f"{back}@base", drawn.current)) == list(reversed(line[:reached]))
    if drawn.left(name):
        assert ids(scripts.upgrade_path(f"{said}@+1", drawn.current)) == [drawn.left(name)[0]]


@given(independent(), st.integers(1, 3))
def test_steps_without_a_branch_list_commands_that_work(drawn: Lines, steps: int) -> None:
    scripts = directory(*drawn.scripts)
    paths = {"upgrade": scripts.upgrade_path, "downgrade": scripts.downgrade_path}
    for command, target in (("upgrade", f"+{steps}"), ("downgrade", f"-{steps}")):
        path, error = outcome(paths[command], target, drawn.current)
        assert any(path <= set(line) for line in drawn.lines.values()), "only where one branch is meant"
        listed = [shlex.split(line)[-1] for line in error.hint.splitlines() if f"vecmig {command} " in line]
        moved = [outcome(paths[command], choice, drawn.current) for choice in listed]
        for path, failure in moved:
            assert failure.message == "", "a command that is named works"
            assert any(path <= set(line) for line in drawn.lines.values()), "and is about one collection"
        if command == "downgrade" and len(drawn.current) > 1:
            able = [name for name, reached in drawn.reached.items() if reached >= steps]
            assert len(listed) == len(able), "each collection that can go back by as many steps is named"


def outcome(
    path: Callable[[str, Sequence[str]], Sequence[Script]], target: str, current: Sequence[str]
) -> tuple[set[str], ScriptError]:
    """Give what a command would move, and how it is refused."""
    try:
        return set(ids(path(target, current))), ScriptError("")
    except ScriptError as error:
        return set(), error


def test_steps_forward_need_no_branch_where_only_one_is_behind() -> None:
    scripts = directory(FIRST, LEFT, NOTES, script("ddd2", ["dddd"], "notes"))
    assert ids(scripts.upgrade_path("+1", ["bbbb", "dddd"])) == ["ddd2"]
    assert ids(scripts.upgrade_path("+1", ["bbbb"])) == ["dddd"]
    assert ids(scripts.upgrade_path("+2", ["bbbb"])) == ["dddd", "ddd2"]
    with pytest.raises(ScriptError, match=r"it could mean articles@\+1, notes@\+1"):
        scripts.upgrade_path("+1", ["aaaa", "dddd"])


# Conflicts, by example ---------------------------------------------------------------------------------------------

FIRST = script("aaaa", (), "articles", label="articles")
LEFT, RIGHT = script("bbbb", ["aaaa"], "articles"), script("cccc", ["aaaa"], "articles")
NOTES = script("dddd", (), "notes", label="notes")
ALONE = script("eeee", ["aaaa"])
SAID = "articles has 2 heads, bbbb, cccc: each moves it, and neither follows the other."
ADVISED = (
    "Let one that is not applied follow the other, by its down_revision and old_tag: "
    "vecmig edit bbbb, or vecmig edit cccc"
)


def refused(scripts: ScriptDirectory, target: str) -> ScriptError:
    """Give the error of an upgrade."""
    with pytest.raises(ScriptError) as caught:
        scripts.upgrade_path(target)
    return caught.value


@pytest.mark.parametrize("target", ["head", "heads", "articles@head"])
def test_two_heads_of_one_collection_are_refused_in_one_way(target: str) -> None:
    error = refused(directory(FIRST, LEFT, RIGHT, NOTES), target)
    assert (error.message, error.hint) == (SAID, ADVISED)
    assert isinstance(error, ConflictingHeads)


def test_other_collections_go_on_beside_a_conflict() -> None:
    scripts = directory(FIRST, LEFT, RIGHT, NOTES)
    assert ids(scripts.upgrade_path("notes@head")) == ["dddd"]
    assert ids(scripts.upgrade_path("bbbb")) == ["aaaa", "bbbb"]
    assert ids(scripts.upgrade_path("head", ["bbbb", "cccc"])) == ["dddd"], "what is applied is past"
    assert set(ids(scripts.find("heads"))) == {"bbbb", "cccc", "dddd"}, "what there is can be shown"


def test_a_merge_does_not_end_a_conflict() -> None:
    scripts = directory(FIRST, LEFT, RIGHT, script("ffff", ["bbbb", "cccc"]))
    assert refused(scripts, "head").message == SAID


def test_what_one_depends_on_comes_before_it() -> None:
    scripts = directory(FIRST, LEFT, script("cccc", ["aaaa"], "articles", after=["bbbb"]))
    assert ids(scripts.upgrade_path("head")) == ["aaaa", "bbbb", "cccc"]


def test_what_is_to_be_edited_is_where_a_line_begins() -> None:
    later = script("ccc2", ["cccc"], "articles")
    error = refused(directory(FIRST, LEFT, RIGHT, later), "head")
    assert "heads, bbbb, ccc2:" in error.message
    assert error.hint.endswith("vecmig edit bbbb, or vecmig edit cccc")


def test_only_what_would_join_one_collection_is_no_merge() -> None:
    branches = directory(FIRST, LEFT, RIGHT, NOTES).branches
    branches.refuse_merge(["bbbb", "dddd"])
    with pytest.raises(ConflictingHeads):
        branches.refuse_merge(["bbbb", "cccc", "dddd"])


def test_a_head_of_no_collection_is_as_in_alembic() -> None:
    scripts = directory(FIRST, LEFT, ALONE)
    error = refused(scripts, "head")
    assert isinstance(error, MultipleHeads)
    assert error.hint == "Join them with: vecmig merge heads   (or name one of them; `heads` means all)"
    assert scripts.upgrade_command == "vecmig upgrade heads"
    assert ids(scripts.upgrade_path("heads"))[0] == "aaaa"
    named = directory(FIRST, LEFT, script("eeee", ["aaaa"], label="ops"))
    assert set(ids(named.upgrade_path("head"))) == {"aaaa", "bbbb", "eeee"}


def test_independent_collections_are_not_joined_for_a_head_of_none() -> None:
    error = refused(directory(FIRST, LEFT, NOTES, script("eeee")), "head")
    assert error.hint == (
        "Name one of them: articles@head, notes@head, eeee   (`heads` means all)\n"
        "To join eeee with one of the others: vecmig merge eeee bbbb"
    )


def test_a_collection_that_forks_from_another() -> None:
    scripts = directory(FIRST, LEFT, script("cccc", ["aaaa"], "notes"))
    assert set(ids(scripts.upgrade_path("head"))) == {"aaaa", "bbbb", "cccc"}
    error = refused(scripts, "articles@head")
    assert "merge" not in error.hint
    assert error.hint.startswith("Name one of them: bbbb, cccc")
