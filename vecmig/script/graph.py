"""Revisions as a directed graph: who follows whom, which branch covers what, and in which order to walk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from vecmig.script.errors import CycleDetected, DuplicateLabel, DuplicateRevision, InvalidName, MissingRevision

#: Words of the grammar; a revision or label of this name could never be addressed.
RESERVED = frozenset({"head", "heads", "base", "current"})

_Edges = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Revision:
    """One node of the graph, as its script states it."""

    id: str
    #: The ids it follows; none for the first revision of a branch, several for a merge.
    down_revisions: tuple[str, ...] = ()
    #: Names given to the branch here; the branch they cover is `RevisionMap.labels`.
    branch_labels: tuple[str, ...] = ()
    #: Ids or labels that must be applied before, without being followed.
    depends_on: tuple[str, ...] = ()
    #: The file it was read from, for messages.
    where: str = ""


class Graph:
    """All revisions with their edges, checked once when built; ids are strings, in the order of loading.

    Raises:
        GraphError: a name is unusable or taken, a reference leads nowhere, or there is a circle.
    """

    def __init__(self, revisions: Iterable[Revision]) -> None:
        self.revisions: dict[str, Revision] = {}
        for revision in revisions:
            check_name(revision.id, "revision id", revision.where)
            if revision.id in self.revisions:
                raise DuplicateRevision(revision.id, (self.revisions[revision.id].where, revision.where))
            self.revisions[revision.id] = revision
        #: Every id, then every label, to the id it stands for.
        self.names = _names(self.revisions)
        self.down: _Edges = {id_: _known(r, r.down_revisions, self.revisions) for id_, r in self.revisions.items()}
        self._dependencies: _Edges = {
            id_: _unique(self.names[name] for name in _known(r, r.depends_on, self.names, "depends_on"))
            for id_, r in self.revisions.items()
        }
        everything = {id_: _unique(self.down[id_] + self._dependencies[id_]) for id_ in self.revisions}
        _refuse_circle(self.down, dependencies=False)
        _refuse_circle(everything, dependencies=True)
        #: Revisions that follow, by down_revision alone, and by dependency too.
        self.next = _reversed(self.down)
        self.next_all = _reversed(everything)
        #: ``down`` and those dependencies that no ancestor has already.
        self.parents: _Edges = {id_: _unique(self.down[id_] + self._own_dependencies(id_)) for id_ in self.revisions}
        self.heads = tuple(id_ for id_ in self.revisions if not self.next[id_])
        self.real_heads = tuple(id_ for id_ in self.revisions if not self.next_all[id_])
        self.bases = tuple(id_ for id_ in self.revisions if not self.down[id_])
        self.labels = self._cover()

    def ancestors(self, ids: Iterable[str], *, dependencies: bool = True) -> set[str]:
        """Return ``ids`` and all they rest on."""
        return _reach(ids, self.parents if dependencies else self.down)

    def descendants(self, ids: Iterable[str], *, dependencies: bool = True) -> set[str]:
        """Return ``ids`` and all that rests on them."""
        return _reach(ids, self.next_all if dependencies else self.next)

    def lineage(self, id_: str, *, dependencies: bool = False) -> set[str]:
        """Return the ancestors and descendants of one revision, itself included."""
        up = self.descendants([id_], dependencies=dependencies)
        return up | self.ancestors([id_], dependencies=dependencies)

    def tops(self, ids: AbstractSet[str], *, dependencies: bool = True) -> tuple[str, ...]:
        """Return those of ``ids`` that no other of them rests on, in the order of loading."""
        edges = self.parents if dependencies else self.down
        below = _reach((parent for id_ in ids for parent in edges[id_]), edges)
        return tuple(id_ for id_ in self.revisions if id_ in ids and id_ not in below)

    def ordered(self, ids: AbstractSet[str], starts: Iterable[str]) -> list[str]:
        """Sort ``ids`` so that each comes before what it rests on, walking down from ``starts`` as Alembic does.

        A line is followed for as long as nothing unvisited rests on its next revision. What cannot be reached
        from ``starts`` inside ``ids`` is left out.
        """
        todo = set(ids)
        loading = {id_: position for position, id_ in enumerate(self.revisions)}
        return list(self._descend(todo, sorted({s for s in starts if s in todo}, key=loading.__getitem__)))

    def _descend(self, todo: set[str], tips: list[str]) -> Iterator[str]:
        below = [self.ancestors([tip]) for tip in tips]
        at = 0
        while tips:
            tip = tips[at]
            blocker = next((i for i, reach in enumerate(below) if i != at and tip in reach), None)
            if blocker is not None:
                at = blocker
                continue
            if tip in todo:
                todo.remove(tip)
                yield tip
            following = [id_ for id_ in self.parents[tip] if id_ in todo and id_ not in tips]
            if following and len(self.parents[tip]) == 1:
                tips[at] = following[0]
                below[at].discard(tip)  # what is left are the ancestors of the next tip; a long line stays linear
            elif following:
                tips[at], below[at] = following[0], self.ancestors([following[0]])
                tips += following[1:]
                below += [self.ancestors([id_]) for id_ in following[1:]]
            else:
                del tips[at], below[at]
                at = max(at - 1, 0)

    def _own_dependencies(self, id_: str) -> tuple[str, ...]:
        if not self._dependencies[id_]:
            return ()
        older = _reach([id_], self.down) - {id_}
        inherited = {dependency for ancestor in older for dependency in self._dependencies[ancestor]}
        return tuple(dependency for dependency in self._dependencies[id_] if dependency not in inherited)

    def _cover(self) -> dict[str, frozenset[str]]:
        covered: dict[str, set[str]] = {id_: set() for id_ in self.revisions}
        for id_, revision in self.revisions.items():
            for member in self._branch(id_) if revision.branch_labels else ():
                covered[member].update(revision.branch_labels)
        return {id_: frozenset(labels) for id_, labels in covered.items()}

    def _branch(self, id_: str) -> set[str]:
        """Return all that follows ``id_``, and, if that is one line, the line that leads to it from the last fork."""
        branch = self.descendants([id_], dependencies=False)
        if any(self._forks(member) for member in branch):
            return branch
        while self.down[id_] and not self._forks(self.down[id_][0]):
            id_ = self.down[id_][0]
            branch.add(id_)
        return branch

    def _forks(self, id_: str) -> bool:
        return len(self.next_all[id_]) > 1 or len(self.down[id_]) > 1


def check_name(name: str, what: str, where: str = "", *, forbidden: str = "@-+:") -> None:
    """Refuse a revision id or label that the grammar could not address.

    Raises:
        InvalidName: it is empty or reserved, or has a forbidden character.
    """
    bad = sorted({char for char in name if char in forbidden or char.isspace() or not char.isprintable()})
    if not name:
        raise InvalidName(name, what, "it is empty", where)
    if name in RESERVED:
        raise InvalidName(name, what, "the word has a meaning of its own", where)
    if bad:
        raise InvalidName(name, what, f"it contains {' '.join(map(repr, bad))}", where)


def _names(revisions: Mapping[str, Revision]) -> dict[str, str]:
    names = {id_: id_ for id_ in revisions}
    for id_, revision in revisions.items():
        for label in revision.branch_labels:
            check_name(label, "branch label", revision.where, forbidden="@+:")
            if label in names:
                raise DuplicateLabel(label, id_, names[label])
            names[label] = id_
    return names


def _known(
    revision: Revision, names: tuple[str, ...], known: Iterable[str], attribute: str = "down_revision"
) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise MissingRevision(name, revision.id, attribute, revision.where)
    return _unique(names)


def _refuse_circle(edges: _Edges, *, dependencies: bool) -> None:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        circle: Sequence[str] = error.args[1]
        raise CycleDetected(circle, dependencies=dependencies) from None


def _unique(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))


def _reversed(edges: _Edges) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {id_: [] for id_ in edges}
    for id_, targets in edges.items():
        for target in targets:
            found[target].append(id_)
    return {id_: tuple(sources) for id_, sources in found.items()}


def _reach(ids: Iterable[str], edges: _Edges) -> set[str]:
    seen: set[str] = set()
    todo = list(ids)
    while todo:
        id_ = todo.pop()
        if id_ not in seen:
            seen.add(id_)
            todo.extend(edges[id_])
    return seen
