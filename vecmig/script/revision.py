"""The graph of revisions without any file or database: what a name means, and what an upgrade or downgrade walks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property

from vecmig.script.errors import (
    AmbiguousStep,
    NotApplied,
    NotInRange,
    OutOfRange,
    OverlappingTargets,
    ResolutionError,
    UnknownCurrent,
)
from vecmig.script.graph import Graph, Revision
from vecmig.script.names import Names, Place, Target
from vecmig.text import listed

_RELATIVE = re.compile(r"(?:(?P<branch>.+?)@)?(?P<start>\w+)?(?P<steps>[+-]\d+)")


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

    @cached_property
    def _names(self) -> Names:
        return Names(self.graph)

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
        place = self._names.place(target)
        return None if place is None else self.graph.revisions[place]

    def find(self, target: Target) -> tuple[Revision, ...]:
        """Return all revisions that a name, or several, mean: none for base, each head for ``heads``.

        Beyond what `get` takes, ``-1`` and ``label@-1`` count down from the heads.
        """
        places = self._names.places(target)
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

    def _refuse_overlap(self, ids: Sequence[str], *, dependencies: bool = True) -> None:
        for id_ in ids:
            others = self.graph.ancestors([id_], dependencies=dependencies).intersection(ids) - {id_}
            if others:
                raise OverlappingTargets(id_, sorted(others))

    def _upgrade_goals(self, target: Target, current: Target, *, strict: bool) -> tuple[str, ...]:
        step = _RELATIVE.fullmatch(target) if isinstance(target, str) else None
        if step is None or not isinstance(target, str):
            return self._ids(target, self._names.places(target))
        branch, name, steps = step["branch"], step["start"], int(step["steps"])
        if name is None and steps <= 0:
            raise OutOfRange(target, "an upgrade goes forward, as in +1")
        if name is None:
            start = self._upgrade_start(target, branch, (current,) if isinstance(current, str) else tuple(current))
        elif steps > 0:
            start = self._names.place(name)
        else:
            start = self._names.place(f"{branch}@{name}" if branch else name)
        return self._ids(target, [self._names.walk(target, start, steps, branch if steps > 0 else None, strict=strict)])

    def _ids(self, target: Target, places: Sequence[Place]) -> tuple[str, ...]:
        ids = tuple(place for place in places if place is not None)
        if len(ids) < len(places):
            raise OutOfRange(_shown(target), "it leads to base, where there is no revision")
        return ids

    def _upgrade_start(self, target: str, branch: str | None, current: tuple[str, ...]) -> Place:
        starts: Sequence[Place] = [self._names.place(name) for name in current]
        if branch:
            starts = self._tips_on(branch, self._ids(current, self._names.places(current)))
        if len(starts) > 1:
            raise AmbiguousStep(target, [f"{start}{target.rpartition('@')[2]}" for start in starts])
        return starts[0] if starts else None

    def _tips_on(self, branch: str, current: Sequence[str]) -> tuple[str, ...]:
        """Return the current heads of a branch, or the newest applied revisions that lead to it."""
        heads = self._names.on_branch(current, branch)
        if heads:
            return heads
        active = self._names.on_branch(self.graph.ancestors(current), branch)
        followed = {parent for id_ in active for parent in self.graph.parents[id_]}
        return tuple(id_ for id_ in active if id_ not in followed)

    def _downgrade_goal(self, target: str, current: tuple[str, ...], *, strict: bool) -> tuple[str | None, Place]:
        step = _RELATIVE.fullmatch(target)
        if step is None:
            label, _, name = target.rpartition("@")
            return label or None, self._names.place(name)
        branch, name, steps = step["branch"], step["start"], int(step["steps"])
        if steps >= 0:
            if name is None:
                raise OutOfRange(target, "a downgrade goes back, as in -1")
            goal = self._names.walk(target, self._names.place(name), steps, branch, strict=strict)
            if goal is None:
                raise OutOfRange(target)
            return branch, goal
        if name is None:
            name = self._downgrade_start(target, branch, current)
            branch = branch or name
        start = self._names.place(f"{branch}@{name}" if branch else name)
        return branch, self._names.walk(target, start, steps, strict=strict)

    def _downgrade_start(self, target: str, branch: str | None, current: tuple[str, ...]) -> str:
        starts = current
        if branch:
            starts = self._names.on_branch(current, branch) or self._names.on_branch(
                self.current_by_branch(current), branch
            )
        if not starts:
            raise OutOfRange(target, "nothing is applied" if not current else f"nothing of {branch} is applied")
        if len(starts) > 1:
            # Alembic still takes an arbitrary one of them and warns that it will refuse in future.
            raise AmbiguousStep(target, [f"{start}@{target.rpartition('@')[2]}" for start in starts])
        return starts[0]

    def _roots_above(self, goal: Place, branch: str | None, target: str, heads: Sequence[str]) -> tuple[str, ...]:
        """Return the revisions directly above the goal of a downgrade; only the branch's where there are several."""
        roots = self.bases if goal is None else self.graph.next[goal]
        if branch is None:
            return roots
        line = self.graph.ancestors([self._names.anchor(branch)], dependencies=False)
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
        if self._names.place(branch) == branch:
            labels = self.labels(branch)
            if len(labels) != 1:
                raise ResolutionError(base, f"{base!r} is ambiguous: revision {branch} is on {_branches(labels)}.")
            (branch,) = labels
        return tuple(goal for goal in goals if branch in self.labels(goal))

    def _lower_end(self, base: Target, head: Target, required: set[str]) -> tuple[str, ...]:
        try:
            places = self._names.places(base)
        except OutOfRange:
            place = self._lower_end_by_steps(str(base), head)
            return () if place is None else (place,)
        if not required.issuperset(places):
            raise NotInRange(_shown(base), _shown(head))
        return tuple(place for place in places if place is not None)

    def _lower_end_by_steps(self, base: str, head: Target) -> Place:
        """Resolve steps that lead too far when counted from the heads: they are counted from ``head`` then.

        Where they lead somewhere from one head and too far from another, they name no end of a range.
        """
        names, branch = self._names.identify(base)
        for start in self._names.counted_from(branch):
            with suppress(OutOfRange):
                self._names.walk(base, start, int(names[0]), strict=True)
                raise NotInRange(base, _shown(head))
        try:
            upper = tuple(self._names.lookup(name) for name in ((head,) if isinstance(head, str) else head))
            return self._downgrade_goal(base, upper, strict=False)[1]
        except ResolutionError:
            raise OutOfRange(base) from None


def _shown(target: Target) -> str:
    return target if isinstance(target, str) else listed(target) or "base"


def _branches(labels: Iterable[str]) -> str:
    names = sorted(labels)
    return f"the branches {listed(names)}" if names else "no labelled branch"
