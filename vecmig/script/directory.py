"""The project's scripts as a graph: found by Alembic's grammar, walked in Alembic's order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property

from vecmig.errors import ScriptError
from vecmig.script.branches import Branches, labelled_once
from vecmig.script.errors import (
    AmbiguousRevision,
    AmbiguousStep,
    MultipleHeads,
    NoCollection,
    NotApplied,
    OutOfRange,
    ResolutionError,
)
from vecmig.script.files import ScriptFiles
from vecmig.script.graph import Revision
from vecmig.script.names import Target
from vecmig.script.revision import RevisionMap
from vecmig.script.script import Script

CURRENT = "current"
#: How many commands to choose from are written out.
_LISTED = 8
#: Steps from wherever the database is.
_STEPS = re.compile(r"[+-]\d+")


class ScriptDirectory(ScriptFiles):
    """All scripts of a project's version locations.

    Every method raises ScriptError when a script does not load, when the scripts do not form a graph, or when a
    name does not lead where it should.
    """

    @cached_property
    def map(self) -> RevisionMap:
        """The graph of the scripts."""
        return RevisionMap(lambda: labelled_once(self.scripts.values()))

    @cached_property
    def branches(self) -> Branches:
        """What the branches of the graph move."""
        moved = {id_: script.collection for id_, script in self.scripts.items()}
        return Branches(self.map.graph, moved, self.patterns)

    def __getitem__(self, id_: str) -> Script:
        """Return the script with exactly this id (KeyError)."""
        return self.scripts[id_]

    def find(self, target: Target, current: Iterable[str] = ()) -> tuple[Script, ...]:
        """Return the scripts that a name, or several, mean; ``current`` stands for a database with these heads.

        ``head`` is each collection's head, and refused where a collection has several. The id of a script over a
        pattern means what it is for each of its collections, here and wherever a name is taken.
        """
        if target == "head":
            self.branches.refuse_ambiguous(target)
            target = "heads"
        with self._explained():
            return self._scripts(self.map.find(tuple(current) if target == CURRENT else self.members(target)))

    @property
    def upgrade_command(self) -> str:
        """What takes a database to the head of each collection, unless one has several."""
        return "vecmig upgrade heads" if self.branches.unplaced else "vecmig upgrade head"

    def heads(self, *, resolve_dependencies: bool = False) -> tuple[Script, ...]:
        """Return the scripts that none follows; with ``resolve_dependencies`` those that none depends on either."""
        ids = self.map.real_heads if resolve_dependencies else self.map.heads
        return tuple(self.scripts[id_] for id_ in ids)

    def branch_points(self) -> tuple[Script, ...]:
        """Return the scripts that several follow, newest first."""
        return tuple(self.scripts[id_] for id_ in self.map.branch_points)

    def history(self, span: str = ":", current: Iterable[str] = ()) -> tuple[Script, ...]:
        """Return the scripts of a range ``a:b``, newest first; an end left out is base, or all heads.

        ``current`` in the range stands for a database with these heads.
        """
        base, colon, head = span.strip().partition(":")
        if not colon or ":" in head:
            raise ScriptError(f"{span!r} is not a range.", hint="Write start:end, start: or :end")
        heads = tuple(current)
        lower: Target = heads if base == CURRENT else self.members(base or "base")
        upper: Target = heads if head == CURRENT else self.members(head or "heads")
        with self._explained():
            return self._scripts(self.map.history(lower, upper))

    def upgrade_path(
        self, target: Target, current: Iterable[str] = (), *, again: Iterable[str] = ()
    ) -> tuple[Script, ...]:
        """Return what an upgrade applies, in that order, to a database with these heads that lacks some below them.

        ``head`` and ``heads`` are each collection's head, and refused where a collection has several of which the
        database lacks one.
        """
        heads = tuple(current)
        if target in ("head", "heads"):
            self.branches.refuse_ambiguous(str(target), self.map.applied(heads))
            target = "heads"
        try:
            with self._explained():
                return self._scripts(self.map.upgrade_path(self.members(target), heads, again=again))
        except (AmbiguousStep, OutOfRange) as error:
            if not isinstance(target, str) or _STEPS.fullmatch(target) is None:
                raise
            behind = [head for head in self.map.heads if head not in self.map.applied(heads)]
            targets = [f"{self.branches.name(head, self.map.heads)}@{target}" for head in behind]
            choices = _leading(self.map.upgrade_path, targets, heads)
            if len(choices) != 1:
                raise _choice(error, choices) from None
            # the other branches are at their heads
            return self._scripts(self.map.upgrade_path(choices[0], heads, again=again))

    def downgrade_path(self, target: str, current: Iterable[str]) -> tuple[Script, ...]:
        """Return what a downgrade rolls back, in that order, from a database with these heads."""
        heads = self.map.current_heads(current)
        try:
            with self._explained():
                if target in self.patterns:
                    return self._scripts(self._back_to(self.members(target), heads))
                return self._scripts(self.map.downgrade_path(target, heads))
        except AmbiguousStep as error:
            if _STEPS.fullmatch(target) is None:
                raise
            targets = [f"{self.branches.name(head, heads)}@{target}" for head in heads]
            choice = _choice(error, _leading(self.map.downgrade_path, targets, heads))
            below = {self.scripts[head].stated.revision.down_revisions for head in heads if self.scripts[head].shared}
            if target == "-1" and len({self.scripts[head].stated.id for head in heads}) == 1:
                choice.hint += f"\nFor all of them: vecmig downgrade {' '.join(*below) or 'base'}"
            raise choice from None

    def newest(self, collection: str, heads: Iterable[str]) -> Script | None:
        """Return the newest script of a collection among ``heads`` and all they rest on."""
        below = self.map.graph.ancestors(heads)
        ordered = (self.scripts[r.id] for r in self.map.history() if r.id in below)
        return next((script for script in ordered if script.collection == collection), None)

    def members(self, target: Target) -> Target:
        """Write out the id of a script over a pattern, which means what it is for each collection."""
        if not isinstance(target, str):
            return tuple(one for each in target for one in self.patterns.get(each, (each,)))
        if self.patterns.get(target) == ():
            raise NoCollection(target, self.files[target].collection or "")
        return self.patterns.get(target, target)

    def _back_to(self, goals: Target, heads: Sequence[str]) -> tuple[Revision, ...]:
        """Return what is rolled back from these heads to what one script is for several collections."""
        paths, refusals = [], []
        for goal in goals:
            try:
                paths.append(self.map.downgrade_path(goal, heads))
            except NotApplied as refusal:
                # one that joined its pattern later
                refusals.append(refusal)
        if not paths:
            raise refusals[0]
        return tuple(dict.fromkeys(revision for path in paths for revision in path))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what is right for collections and patterns: the graph knows none."""
        try:
            yield
        except MultipleHeads as error:
            raise self.branches.explained(error) from None
        except AmbiguousRevision as error:
            for id_, members in self.patterns.items():
                if set(error.matches) <= set(members):
                    error.hint = f"For all of them write {id_}, for one of them COLLECTION@{error.argument}"
            raise

    def _scripts(self, revisions: Iterable[Revision]) -> tuple[Script, ...]:
        return tuple(self.scripts[revision.id] for revision in revisions)


def _leading(path: Callable[[str, Iterable[str]], object], targets: Iterable[str], heads: Iterable[str]) -> list[str]:
    """Return those of the targets that can be reached from where a database is."""
    found = []
    for target in targets:
        with suppress(ResolutionError):
            path(target, heads)
            found.append(target)
    return found


def _choice(error: ResolutionError, choices: Sequence[str]) -> ResolutionError:
    """Return what is said of steps that lead on from several heads: a command for each that has as many."""
    if not choices:
        return error
    command = "upgrade" if error.argument.startswith("+") else "downgrade"
    hint = "Run: " + "\nor:  ".join(f"vecmig {command} {shlex.quote(choice)}" for choice in choices[:_LISTED])
    if len(choices) > _LISTED:
        hint += f"\nand so for {len(choices) - _LISTED} more"
    if isinstance(error, AmbiguousStep):
        return AmbiguousStep(error.argument, choices, hint=hint)
    error.hint = hint
    return error
