"""The project's scripts on disk: loaded once, found by Alembic's grammar, walked in Alembic's order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from vecmig.config import Config
from vecmig.errors import ScriptError
from vecmig.script.branches import Branches, labelled_once
from vecmig.script.errors import AmbiguousStep, DuplicateRevision, MultipleHeads, OutOfRange, ResolutionError
from vecmig.script.graph import Revision
from vecmig.script.loading import load_script
from vecmig.script.names import Target
from vecmig.script.revision import RevisionMap
from vecmig.script.script import Script
from vecmig.text import shown

CURRENT = "current"
#: Steps from wherever the database is.
_STEPS = re.compile(r"[+-]\d+")


class ScriptDirectory:
    """All scripts of a project's version locations.

    Every method raises ScriptError when a script does not load, when the scripts do not form a graph, or when a
    name does not lead where it should.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        if not config.script_location.is_dir():
            raise ScriptError(
                f"The script location {shown(config.script_location)} does not exist.",
                hint="To make one: vecmig init   (or correct script_location in the configuration)",
            )

    @cached_property
    def scripts(self) -> Mapping[str, Script]:
        """Every script by its id, in the order of version locations and file names."""
        found: dict[str, Script] = {}
        for path in self.paths():
            script = load_script(path)
            if script.id in found:
                raise DuplicateRevision(script.id, (shown(found[script.id].path), shown(path)))
            found[script.id] = script
        return found

    @cached_property
    def map(self) -> RevisionMap:
        """The graph of the scripts."""
        return RevisionMap(lambda: labelled_once(self.scripts.values()))

    @cached_property
    def branches(self) -> Branches:
        """What the branches of the graph move."""
        return Branches(self.map.graph, {id_: script.collection for id_, script in self.scripts.items()})

    def paths(self) -> tuple[Path, ...]:
        """Return the script files, without loading them."""
        found = [path for place in self.config.version_locations for path in sorted(place.glob("*.py"))]
        return tuple(path for path in dict.fromkeys(found) if not path.name.startswith((".", "__init__")))

    def reload(self) -> None:
        """Forget what was loaded, because files have been added or edited."""
        for name in ("scripts", "map", "branches"):
            self.__dict__.pop(name, None)

    def __getitem__(self, id_: str) -> Script:
        """Return the script with exactly this id (KeyError)."""
        return self.scripts[id_]

    def find(self, target: Target, current: Iterable[str] = ()) -> tuple[Script, ...]:
        """Return the scripts that a name, or several, mean; ``current`` stands for a database with these heads.

        ``head`` is each collection's head, and refused where a collection has several.
        """
        if target == "head":
            self.branches.refuse_ambiguous(target)
            target = "heads"
        with self._explained():
            return self._scripts(self.map.find(tuple(current) if target == CURRENT else target))

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
        lower: Target = heads if base == CURRENT else base or "base"
        upper: Target = heads if head == CURRENT else head or "heads"
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
                return self._scripts(self.map.upgrade_path(target, heads, again=again))
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
                return self._scripts(self.map.downgrade_path(target, heads))
        except AmbiguousStep as error:
            if _STEPS.fullmatch(target) is None:
                raise
            targets = [f"{self.branches.name(head, heads)}@{target}" for head in heads]
            raise _choice(error, _leading(self.map.downgrade_path, targets, heads)) from None

    def newest(self, collection: str, heads: Iterable[str]) -> Script | None:
        """Return the newest script of a collection among ``heads`` and all they rest on."""
        below = self.map.graph.ancestors(heads)
        ordered = (self.scripts[r.id] for r in self.map.history() if r.id in below)
        return next((script for script in ordered if script.collection == collection), None)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say of several heads what is right for their collections: the graph knows none."""
        try:
            yield
        except MultipleHeads as error:
            raise self.branches.explained(error) from None

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
    hint = "Run: " + "\nor:  ".join(f"vecmig {command} {shlex.quote(choice)}" for choice in choices)
    if isinstance(error, AmbiguousStep):
        return AmbiguousStep(error.argument, choices, hint=hint)
    error.hint = hint
    return error
