"""The graph of revisions without any file or database: what a name means, and what an upgrade or downgrade walks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property

from vecmig.script.errors import (
    AmbiguousRevision,
    AmbiguousStep,
    MultipleHeads,
    NotApplied,
    NotInRange,
    NotOnBranch,
    OutOfRange,
    OverlappingTargets,
    ResolutionError,
    UnknownBranch,
    UnknownCurrent,
    UnknownRevision,
    listed,
)
from vecmig.script.graph import Graph, Revision

__all__ = ["Revision", "RevisionMap"]

#: Where a walk stands: the id of a revision, or None for base, before the first one.
_Place = str | None
#: One name of the grammar, or several.
Target = str | Sequence[str]

_RELATIVE = re.compile(r"(?:(?P<branch>.+?)@)?(?P<start>\w+)?(?P<steps>[+-]\d+)")
_DOWN = re.compile(r"-\d*[1-9]\d*")


class RevisionMap:
    """All revisions, loaded when first needed; resolves names and orders paths as Alembic does.

    Every method raises GraphError when the revisions do not form a graph, and ResolutionError (both are
    ScriptError) when a name does not lead where it should.
    """

    def __init__(self, load: Callable[[], Iterable[Revision]]) -> None:
        self._load = load

    @cached_property
    def graph(self) -> Graph:
        """The revisions with their edges, checked."""
        return Graph(self._load())

    def __iter__(self) -> Iterator[Revision]:
        """Yield all revisions in the order of loading."""
        return iter(self.graph.revisions.values())

    def __contains__(self, id_: object) -> bool:
        return id_ in self.graph.revisions

    def __len__(self) -> int:
        return len(self.graph.revisions)

    def __getitem__(self, id_: str) -> Revision:
        """Return the revision with exactly this id (KeyError)."""
        return self.graph.revisions[id_]

    @property
    def heads(self) -> tuple[str, ...]:
        """Ids that no revision follows."""
        return self.graph.heads

    @property
    def real_heads(self) -> tuple[str, ...]:
        """Ids that no revision follows or depends on: what a database is at after ``upgrade heads``."""
        return self.graph.real_heads

    @property
    def bases(self) -> tuple[str, ...]:
        """Ids that follow no revision."""
        return self.graph.bases

    @property
    def branch_points(self) -> tuple[str, ...]:
        """Ids that more than one revision follows, newest first."""
        return tuple(r.id for r in self.history() if len(self.graph.next[r.id]) > 1)

    def next(self, id_: str) -> tuple[str, ...]:
        """Return the ids that follow one revision."""
        return self.graph.next[id_]

    def labels(self, id_: str) -> frozenset[str]:
        """Return the labels of the branches that one revision is on."""
        return self.graph.labels[id_]

    def get(self, target: str) -> Revision | None:
        """Return the one revision that a name means, or None for base.

        Takes ids, the start of one, labels, ``head``, ``base``, and any of them behind ``label@``.
        """
        place = self._one(target)
        return None if place is None else self.graph.revisions[place]

    def find(self, target: Target) -> tuple[Revision, ...]:
        """Return all revisions that a name, or several, mean: none for base, each head for ``heads``.

        Beyond what `get` takes, ``-1`` and ``label@-1`` count down from the heads.
        """
        places = self._find(target)
        if None in places:
            raise OutOfRange(_shown(target), "it leads to base, where there is no revision")
        return tuple(self.graph.revisions[id_] for id_ in places if id_ is not None)

    def upgrade_path(
        self, target: Target, current: Iterable[str] = (), *, again: Iterable[str] = ()
    ) -> tuple[Revision, ...]:
        """Return what `upgrade target` applies, in that order, to a database whose heads are ``current``.

        ``again`` are revisions below these heads that the database has no longer: they come first where they lie on
        the way to the target.
        """
        heads = self._current(current)
        goals = self._upgrade_goals(target, heads, strict=True)
        self._refuse_overlap(goals)
        wanted = self.graph.ancestors(goals)
        begun_anew = wanted.intersection(again)
        needed = (wanted - self.graph.ancestors(heads)) | begun_anew
        return self._revisions(reversed(self.graph.ordered(needed, {*goals, *begun_anew})))

    def downgrade_path(self, target: str, current: Iterable[str]) -> tuple[Revision, ...]:
        """Return what `downgrade target` rolls back, in that order, from a database whose heads are ``current``."""
        heads = self._current(current)
        branch, goal = self._downgrade_goal(target, heads, strict=True)
        roots = self._roots_above(goal, branch, target, heads)
        leaving = self.graph.descendants(roots) & self.graph.ancestors(heads)
        if goal is not None and not leaving and goal not in heads:
            raise NotApplied(target, heads)
        return self._revisions(self.graph.ordered(leaving, heads))

    def history(self, base: Target = "base", head: Target = "heads") -> tuple[Revision, ...]:
        """Return the revisions from ``head`` down to ``base``, both included, newest first.

        Each end is a name, or the heads of a database (a tuple of ids, empty for base). Steps that lead too
        far stop at the last revision.
        """
        goals = self._on_same_branch(self._upgrade_goals(head, base, strict=False), base)
        self._refuse_overlap(goals)
        required = self.graph.ancestors(goals)
        lower = self._lower_end(base, head, required)
        self._refuse_overlap(lower)
        wanted = (required - self.graph.ancestors(lower)).union(lower)
        if lower:
            self._refuse_overlap(lower, dependencies=False)
            wanted &= self.graph.descendants(lower, dependencies=False)
        ordered = self.graph.ordered(wanted, goals)
        if len(ordered) < len(wanted):
            raise NotInRange(_shown(base), _shown(head))
        return self._revisions(ordered)

    def applied(self, current: Iterable[str]) -> frozenset[str]:
        """Return the ids of all revisions that a database with these heads has applied."""
        return frozenset(self.graph.ancestors(self._current(current)))

    def current_heads(self, applied: Iterable[str]) -> tuple[str, ...]:
        """Return those of the applied revisions that no other applied one follows or depends on."""
        return self._current(applied)

    def current_by_branch(self, current: Iterable[str]) -> tuple[str, ...]:
        """Return the newest applied revision of every branch, also of one that another head only depends on."""
        return self.graph.tops(set(self.applied(current)), dependencies=False)

    def _revisions(self, ids: Iterable[str]) -> tuple[Revision, ...]:
        return tuple(self.graph.revisions[id_] for id_ in ids)

    def _current(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Check what a database says it is at, and leave out what another of the ids includes."""
        wanted = {ids} if isinstance(ids, str) else set(ids)
        for id_ in sorted(wanted):
            if id_ not in self.graph.revisions:
                raise UnknownCurrent(id_)
        return self.graph.tops(wanted)

    def _identify(self, target: str) -> tuple[tuple[str, ...], str | None]:
        """Replace ``head`` and the like by ids, which may still be partial, and split off the branch."""
        label, at, rest = target.partition("@")
        branch, name = (label or None, rest) if at else (None, target)
        if branch:
            self._anchor(branch)
        if name == "heads":
            return (self._on_branch(self.heads, branch) if branch else self.real_heads), branch
        if name == "head":
            heads = self._on_branch(self.heads, branch) if branch else self.heads
            if len(heads) > 1:
                raise MultipleHeads(target, heads)
            return heads, branch
        return (() if name == "base" else (name,)), branch

    def _one(self, target: str) -> _Place:
        names, branch = self._identify(target)
        if len(names) > 1:
            raise MultipleHeads(target, names)
        return self._lookup(names[0], branch) if names else None

    def _find(self, target: Target) -> tuple[_Place, ...]:
        if not isinstance(target, str):
            return tuple(place for each in target for place in self._find(each))
        names, branch = self._identify(target)
        if len(names) == 1 and _DOWN.fullmatch(names[0]):
            starts = self._counted_from(branch)
            return tuple(self._walk(target, head, int(names[0]), strict=True) for head in starts)
        return tuple(self._lookup(name, branch) for name in names)

    def _counted_from(self, branch: str | None) -> list[str]:
        """Return the heads from which ``-n`` or ``branch@-n`` counts."""
        return [head for head in self.real_heads if branch is None or branch in self.labels(head)]

    def _lookup(self, name: str, branch: str | None = None) -> str:
        anchor = self._anchor(branch) if branch else None
        id_ = self.graph.names.get(name) or self._by_start(name, branch)
        if branch and anchor not in self.graph.lineage(id_):
            raise NotOnBranch(name, branch)
        return id_

    def _by_start(self, start: str, branch: str | None) -> str:
        names = [name for name in self.graph.names if start and len(name) > 3 and name.startswith(start)]
        if branch:
            names = [name for name in names if self._on_branch([self.graph.names[name]], branch)]
        if not names:
            raise UnknownRevision(start)
        if len(names) > 1:
            raise AmbiguousRevision(start, names)
        return self.graph.names[names[0]]

    def _anchor(self, branch: str) -> str:
        """Return the revision that a branch is named by: the one with the label, or, for an id, itself."""
        try:
            return self._lookup(branch)
        except AmbiguousRevision:
            raise
        except ResolutionError:
            raise UnknownBranch(branch) from None

    def _on_branch(self, ids: Iterable[str], branch: str, *, dependencies: bool = False) -> tuple[str, ...]:
        """Keep the ids that are above or below the revision that names the branch."""
        names, outer = self._identify(branch)
        anchors = {self._lookup(name) for name in (*names, *((outer,) if outer else ()))}
        if not anchors:
            return tuple(ids)
        return tuple(id_ for id_ in ids if anchors & self.graph.lineage(id_, dependencies=dependencies))

    def _refuse_overlap(self, ids: Sequence[str], *, dependencies: bool = True) -> None:
        for id_ in ids:
            others = self.graph.ancestors([id_], dependencies=dependencies).intersection(ids) - {id_}
            if others:
                raise OverlappingTargets(id_, sorted(others))

    def _walk(self, target: str, start: _Place, steps: int, branch: str | None = None, *, strict: bool) -> _Place:
        """Go up (steps > 0) or down; beyond either end raise OutOfRange if ``strict``, else stay there."""
        place = start
        for _ in range(abs(steps)):
            choices = self._above(place, branch) if steps > 0 else self._below(place)
            if not choices:
                if strict:
                    raise OutOfRange(target)
                return place
            if len(choices) > 1:
                raise AmbiguousStep(target, [choice or "base" for choice in choices])
            place = choices[0]
        return place

    def _above(self, place: _Place, branch: str | None) -> tuple[_Place, ...]:
        ids = self.bases if place is None else self.graph.next[place]
        return self._on_branch(ids, branch) if branch else ids

    def _below(self, place: _Place) -> tuple[_Place, ...]:
        return () if place is None else (self.graph.down[place] or (None,))

    def _upgrade_goals(self, target: Target, current: Target, *, strict: bool) -> tuple[str, ...]:
        step = _RELATIVE.fullmatch(target) if isinstance(target, str) else None
        if step is None or not isinstance(target, str):
            return self._ids(target, self._find(target))
        branch, name, steps = step["branch"], step["start"], int(step["steps"])
        if name is None and steps <= 0:
            raise OutOfRange(target, "an upgrade goes forward, as in +1")
        if name is None:
            start = self._upgrade_start(target, branch, (current,) if isinstance(current, str) else tuple(current))
        elif steps > 0:
            start = self._one(name)
        else:
            start = self._one(f"{branch}@{name}" if branch else name)
        return self._ids(target, [self._walk(target, start, steps, branch if steps > 0 else None, strict=strict)])

    def _ids(self, target: Target, places: Sequence[_Place]) -> tuple[str, ...]:
        ids = tuple(place for place in places if place is not None)
        if len(ids) < len(places):
            raise OutOfRange(_shown(target), "it leads to base, where there is no revision")
        return ids

    def _upgrade_start(self, target: str, branch: str | None, current: tuple[str, ...]) -> _Place:
        starts: Sequence[_Place] = [self._one(name) for name in current]
        if branch:
            starts = self._tips_on(branch, self._ids(current, self._find(current)))
        if len(starts) > 1:
            raise AmbiguousStep(target, [f"{start}{target.rpartition('@')[2]}" for start in starts])
        return starts[0] if starts else None

    def _tips_on(self, branch: str, current: Sequence[str]) -> tuple[str, ...]:
        """Return the current heads of a branch, or the newest applied revisions that lead to it."""
        heads = self._on_branch(current, branch)
        if heads:
            return heads
        active = self._on_branch(self.graph.ancestors(current), branch)
        followed = {parent for id_ in active for parent in self.graph.parents[id_]}
        return tuple(id_ for id_ in active if id_ not in followed)

    def _downgrade_goal(self, target: str, current: tuple[str, ...], *, strict: bool) -> tuple[str | None, _Place]:
        step = _RELATIVE.fullmatch(target)
        if step is None:
            label, _, name = target.rpartition("@")
            return label or None, self._one(name)
        branch, name, steps = step["branch"], step["start"], int(step["steps"])
        if steps >= 0:
            if name is None:
                raise OutOfRange(target, "a downgrade goes back, as in -1")
            goal = self._walk(target, self._one(name), steps, branch, strict=strict)
            if goal is None:
                raise OutOfRange(target)
            return branch, goal
        if name is None:
            name = self._downgrade_start(target, branch, current)
            branch = branch or name
        start = self._one(f"{branch}@{name}" if branch else name)
        return branch, self._walk(target, start, steps, strict=strict)

    def _downgrade_start(self, target: str, branch: str | None, current: tuple[str, ...]) -> str:
        starts = current
        if branch:
            starts = self._on_branch(current, branch) or self._on_branch(self.current_by_branch(current), branch)
        if not starts:
            raise OutOfRange(target, "nothing is applied" if not current else f"nothing of {branch} is applied")
        if len(starts) > 1:
            # Alembic still takes an arbitrary one of them and warns that it will refuse in future.
            raise AmbiguousStep(target, [f"{start}@{target.rpartition('@')[2]}" for start in starts])
        return starts[0]

    def _roots_above(self, goal: _Place, branch: str | None, target: str, heads: Sequence[str]) -> tuple[str, ...]:
        """Return the revisions directly above the goal of a downgrade; only the branch's where there are several."""
        roots = self.bases if goal is None else self.graph.next[goal]
        if branch is None:
            return roots
        line = self.graph.ancestors([self._anchor(branch)], dependencies=False)
        if len(roots) <= 1:
            return roots
        chosen = tuple(root for root in roots if root in line)
        if not chosen:
            raise NotApplied(target, heads)
        return chosen

    def _on_same_branch(self, goals: tuple[str, ...], base: Target) -> tuple[str, ...]:
        """Keep the goals that carry the label of ``label@base``."""
        if not isinstance(base, str) or "@" not in base:
            return goals
        branch = base.partition("@")[0]
        if self._one(branch) == branch:
            labels = self.labels(branch)
            if len(labels) != 1:
                raise ResolutionError(base, f"{base!r} is ambiguous: revision {branch} is on {_branches(labels)}.")
            (branch,) = labels
        return tuple(goal for goal in goals if branch in self.labels(goal))

    def _lower_end(self, base: Target, head: Target, required: set[str]) -> tuple[str, ...]:
        try:
            places = self._find(base)
        except OutOfRange:
            place = self._lower_end_by_steps(str(base), head)
            return () if place is None else (place,)
        if not required.issuperset(places):
            raise NotInRange(_shown(base), _shown(head))
        return tuple(place for place in places if place is not None)

    def _lower_end_by_steps(self, base: str, head: Target) -> _Place:
        """Resolve steps that lead too far when counted from the heads: they are counted from ``head`` then.

        Where they lead somewhere from one head and too far from another, they name no end of a range.
        """
        names, branch = self._identify(base)
        for start in self._counted_from(branch):
            with suppress(OutOfRange):
                self._walk(base, start, int(names[0]), strict=True)
                raise NotInRange(base, _shown(head))
        try:
            upper = tuple(self._lookup(name) for name in ((head,) if isinstance(head, str) else head))
            return self._downgrade_goal(base, upper, strict=False)[1]
        except ResolutionError:
            raise OutOfRange(base) from None


def _shown(target: Target) -> str:
    return target if isinstance(target, str) else listed(target) or "base"


def _branches(labels: Iterable[str]) -> str:
    names = sorted(labels)
    return f"the branches {listed(names)}" if names else "no labelled branch"
