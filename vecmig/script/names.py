"""What a name of the revision grammar means: an id or the start of one, a label, ``head``, ``label@…``, ``-1``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from vecmig.script.errors import (
    AmbiguousRevision,
    AmbiguousStep,
    MultipleHeads,
    NotOnBranch,
    OutOfRange,
    ResolutionError,
    UnknownBranch,
    UnknownRevision,
)
from vecmig.script.graph import Graph

#: Where a walk stands: the id of a revision, or None for base, before the first one.
Place = str | None
#: One name of the grammar, or several.
Target = str | Sequence[str]

_DOWN = re.compile(r"-\d*[1-9]\d*")


class Names:
    """Resolves names in one graph, and walks from where they lead. Every method may raise ResolutionError."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def identify(self, target: str) -> tuple[tuple[str, ...], str | None]:
        """Replace ``head`` and the like by ids, which may still be partial, and split off the branch."""
        label, at, rest = target.partition("@")
        branch, name = (label or None, rest) if at else (None, target)
        if branch:
            self.anchor(branch)
        if name == "heads":
            return (self.on_branch(self._graph.heads, branch) if branch else self._graph.real_heads), branch
        if name == "head":
            heads = self.on_branch(self._graph.heads, branch) if branch else self._graph.heads
            if len(heads) > 1:
                raise MultipleHeads(target, heads)
            return heads, branch
        return (() if name == "base" else (name,)), branch

    def place(self, target: str) -> Place:
        """Return the one place that a name means."""
        names, branch = self.identify(target)
        if len(names) > 1:
            raise MultipleHeads(target, names)
        return self.lookup(names[0], branch) if names else None

    def places(self, target: Target) -> tuple[Place, ...]:
        """Return every place that a name, or several, mean."""
        if not isinstance(target, str):
            return tuple(place for each in target for place in self.places(each))
        names, branch = self.identify(target)
        if len(names) == 1 and _DOWN.fullmatch(names[0]):
            starts = self.counted_from(branch)
            return tuple(self.walk(target, head, int(names[0]), strict=True) for head in starts)
        return tuple(self.lookup(name, branch) for name in names)

    def counted_from(self, branch: str | None) -> list[str]:
        """Return the heads from which ``-n`` or ``branch@-n`` counts."""
        return [head for head in self._graph.real_heads if branch is None or branch in self._graph.labels[head]]

    def lookup(self, name: str, branch: str | None = None) -> str:
        """Return the id that a name, or the start of one, means; with ``branch`` only if it is on that."""
        anchor = self.anchor(branch) if branch else None
        id_ = self._graph.names.get(name) or self._by_start(name, branch)
        if branch and anchor not in self._graph.lineage(id_):
            raise NotOnBranch(name, branch)
        return id_

    def _by_start(self, start: str, branch: str | None) -> str:
        names = [name for name in self._graph.names if start and len(name) > 3 and name.startswith(start)]
        if branch:
            names = [name for name in names if self.on_branch([self._graph.names[name]], branch)]
        if not names:
            raise UnknownRevision(start)
        if len(names) > 1:
            raise AmbiguousRevision(start, names)
        return self._graph.names[names[0]]

    def anchor(self, branch: str) -> str:
        """Return the revision that a branch is named by: the one with the label, or, for an id, itself."""
        try:
            return self.lookup(branch)
        except AmbiguousRevision:
            raise
        except ResolutionError:
            raise UnknownBranch(branch) from None

    def on_branch(self, ids: Iterable[str], branch: str, *, dependencies: bool = False) -> tuple[str, ...]:
        """Keep the ids that are above or below the revision that names the branch."""
        names, outer = self.identify(branch)
        anchors = {self.lookup(name) for name in (*names, *((outer,) if outer else ()))}
        if not anchors:
            return tuple(ids)
        return tuple(id_ for id_ in ids if anchors & self._graph.lineage(id_, dependencies=dependencies))

    def walk(self, target: str, start: Place, steps: int, branch: str | None = None, *, strict: bool) -> Place:
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

    def _above(self, place: Place, branch: str | None) -> tuple[Place, ...]:
        ids = self._graph.bases if place is None else self._graph.next[place]
        return self.on_branch(ids, branch) if branch else ids

    def _below(self, place: Place) -> tuple[Place, ...]:
        return () if place is None else (self._graph.down[place] or (None,))
