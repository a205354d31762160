"""What ``head`` means above the graph: each collection's own head, unless two revisions of one collection conflict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property

from vecmig.script.errors import ConflictingHeads, InvalidName, MultipleHeads
from vecmig.script.graph import Graph, Revision, check_name
from vecmig.script.script import Script


@dataclass(frozen=True, slots=True)
class Conflict:
    """Revisions that move one collection, of which none follows another."""

    collection: str
    #: In the order of loading.
    revisions: tuple[str, ...]
    #: Where the line of each of them leaves that of the others: what is to be edited to put it after another.
    begin: tuple[str, ...]
    #: The scripts over patterns among them.
    patterns: tuple[str, ...] = ()

    @property
    def error(self) -> ConflictingHeads:
        """What every command says of it."""
        return ConflictingHeads(self.collection, self.revisions, self.begin, self.patterns)


class Branches:
    """The branches of a graph, with the collections that they move. Pure."""

    def __init__(
        self, graph: Graph, moved: Mapping[str, str | None], patterns: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Know nothing yet.

        Args:
            graph: the graph.
            moved: the collection that each revision moves, by its id; None where it moves none.
            patterns: the scripts over patterns, each with the revisions that it is.
        """
        self._graph = graph
        self._moved = moved
        self._patterns = patterns or {}

    @cached_property
    def conflicts(self) -> tuple[Conflict, ...]:
        """The collections that have several heads of their own, in the order of loading."""
        names = dict.fromkeys(name for id_ in self._graph.revisions if (name := self._moved.get(id_)))
        tops = {name: self._tops(name) for name in names}
        return tuple(self._conflict(name, ids) for name, ids in tops.items() if len(ids) > 1)

    @cached_property
    def unplaced(self) -> tuple[str, ...]:
        """The heads of no collection, where there are several heads: their own line moves none and has no label."""
        heads = self._graph.real_heads
        named = {id_ for id_, r in self._graph.revisions.items() if r.branch_labels or self._moved.get(id_)}
        return tuple(head for head, own in self._own(heads).items() if len(heads) > 1 and not own & named)

    def conflicts_beyond(self, applied: AbstractSet[str] = frozenset()) -> tuple[Conflict, ...]:
        """Return the conflicts that a database with these revisions has not got past by having all of them."""
        beyond = (conflict for conflict in self.conflicts if not applied >= set(conflict.revisions))
        # what is applied is not edited any more
        return tuple(
            replace(one, begin=tuple(id_ for id_ in one.begin if id_ not in applied) or one.begin) for one in beyond
        )

    def refuse_conflicts(self, applied: AbstractSet[str] = frozenset()) -> None:
        """Refuse what needs one head of each collection.

        Raises:
            ConflictingHeads: a collection has several, not all of them applied.
        """
        for conflict in self.conflicts_beyond(applied):
            raise conflict.error

    def refuse_ambiguous(self, argument: str, applied: AbstractSet[str] = frozenset()) -> None:
        """Refuse ``head`` or ``heads`` where it cannot mean each collection's head.

        Raises:
            ConflictingHeads: a collection has several heads, not all of them applied.
            MultipleHeads: ``head`` is ambiguous as in Alembic, because one of several is that of no collection.
        """
        self.refuse_conflicts(applied)
        if argument == "head" and self.unplaced:
            raise self.explained(MultipleHeads(argument, self._graph.real_heads))

    def explained(self, error: MultipleHeads) -> ConflictingHeads | MultipleHeads:
        """Return what is said of several heads in place of the advice to join them, where that would be wrong."""
        try:
            self.refuse_merge(error.heads)
        except ConflictingHeads as conflict:
            return conflict
        own = self._own(error.heads)
        moving = [head for head in error.heads if any(self._moved.get(id_) for id_ in own[head])]
        if len(moving) < 2:
            return error
        named = ", ".join(self.head_name(head) for head in error.heads)
        hint = f"Name one of them: {named}   (`heads` means all)"
        alone = [head for head in error.heads if head in self.unplaced]
        if alone:
            hint += f"\nTo join {alone[0]} with one of the others: vecmig merge {alone[0]} {moving[0]}"
        return MultipleHeads(error.argument, error.heads, hint=hint)

    def refuse_merge(self, ids: Iterable[str]) -> None:
        """Refuse to join revisions that move the same collection side by side.

        Raises:
            ConflictingHeads: they do.
        """
        below = [self._graph.ancestors([id_]) for id_ in ids]
        for conflict in self.conflicts:
            sides = {tuple(id_ for id_ in conflict.revisions if id_ in side) for side in below} - {()}
            if len(sides) > 1:
                raise conflict.error

    def heads_above(self, collection: str) -> tuple[str, ...]:
        """Return the heads that follow the newest revision of a collection; none where it has no revision.

        Raises:
            ConflictingHeads: it has several newest ones.
        """
        tops = self._tops(collection)
        if len(tops) > 1:
            raise self._conflict(collection, tops).error
        above = self._graph.descendants(tops, dependencies=False)
        return tuple(id_ for id_ in self._graph.heads if id_ in above)

    def name(self, id_: str, among: Iterable[str]) -> str:
        """Return what stands before ``@`` to mean one of several revisions: a label of its branch, or else its id."""
        others = set(among) - {id_}
        moved = self._moved.get(id_)
        for label in sorted(self._graph.labels[id_], key=lambda label: (label != moved, label)):
            if not others & self._graph.lineage(self._graph.names[label]):
                return label
        return id_

    def head_name(self, id_: str) -> str:
        """Return the name of a head: ``label@head`` where a label leads to it alone, or else its id."""
        name = self.name(id_, self._graph.heads)
        return id_ if name == id_ else f"{name}@head"

    def label_for(self, collection: str, id_: str) -> tuple[str, ...]:
        """Return the label of the branch that the first revision of a collection begins; none where it cannot be one.

        Args:
            collection: the collection, whose name is the label unless the grammar has another use for it.
            id_: the first revision.
        """
        try:
            check_name(collection, "branch label", forbidden="@+:")
        except InvalidName:
            return ()
        taken = collection == id_ or collection in self._graph.names or collection in self._moved.values()
        return () if taken else (collection,)

    def _tops(self, collection: str) -> tuple[str, ...]:
        return self._graph.tops({id_ for id_ in self._graph.revisions if self._moved.get(id_) == collection})

    def _conflict(self, collection: str, tops: Sequence[str]) -> Conflict:
        lowest = {top: self._graph.ordered(own, [top])[-1] for top, own in self._own(tops).items()}
        patterns = tuple(script for script, ids in self._patterns.items() if not {*lowest.values()}.isdisjoint(ids))
        return Conflict(collection, tuple(tops), tuple(lowest.values()), patterns)

    def _own(self, ids: Iterable[str]) -> dict[str, set[str]]:
        """Return, for each of several revisions, itself and what it rests on that none of the others rests on."""
        below = {id_: self._graph.ancestors([id_]) for id_ in ids}
        return {id_: own.difference(*(b for o, b in below.items() if o != id_)) for id_, own in below.items()}


def labelled_once(scripts: Iterable[Script]) -> Iterator[Revision]:
    """Yield the revisions of scripts; where two began the same collection's branch, the first keeps its name as label.

    So a conflict of two people is found as one, and not as a graph that cannot be read.
    """
    begun: set[str] = set()
    for script in scripts:
        revision = script.revision
        if script.collection in begun:
            revision = replace(
                revision, branch_labels=tuple(name for name in revision.branch_labels if name != script.collection)
            )
        if script.collection is not None and script.collection in revision.branch_labels:
            begun.add(script.collection)
        yield revision
