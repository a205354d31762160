"""Writing new revisions: what they follow, and which tags they lead between."""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vecmig.config.collections import Collections
from vecmig.errors import ScriptError
from vecmig.script.adopt_call import AdoptCall
from vecmig.script.branches import Branches
from vecmig.script.directory import ScriptDirectory
from vecmig.script.drafts import Draft, Kind, Move, write_drafts
from vecmig.script.errors import InvalidName, MultipleHeads
from vecmig.script.graph import Graph, Revision
from vecmig.script.moves import adopting, index_move, move_of, movers, only_beginner, only_mover, pattern_move, together
from vecmig.script.patterns import is_pattern
from vecmig.script.script import Script
from vecmig.text import listed, shown

#: Narrower than what is read: a new id is part of a file name and of relative names such as id+1.
_NEW_ID = re.compile(r"[A-Za-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class Wish:
    """How a new revision is to be placed in the graph; the options of ``vecmig revision``, in its words."""

    message: str = ""
    #: What it follows: names of the grammar. None for where its collection is; its first revision begins a branch.
    head: tuple[str, ...] | None = None
    #: Whether it may follow a revision that others follow already.
    splice: bool = False
    branch_labels: tuple[str, ...] = ()
    #: None for a random id.
    rev_id: str | None = None
    depends_on: tuple[str, ...] = ()
    #: None for where the parent is, or for the only version location.
    version_path: Path | None = None


def new_revision(
    directory: ScriptDirectory,
    collections: Collections,
    wish: Wish,
    *,
    collection: str | None = None,
    from_tag: str | None = None,
    to_tag: str | None = None,
    live: Mapping[str, str] | None = None,
    adopt: AdoptCall | None = None,
    index: bool = False,
) -> Script:
    """Write a revision that moves one collection, or all those of a pattern, to another tag.

    The old tag is where the collection's newest revision leads, on the branch that ``wish`` names if it names one; the
    new one is what collections.yaml asks for; ``from_tag`` and ``to_tag`` say otherwise. Without ``collection`` it is
    the only one that has to move. A collection whose newest revision is on hold starts from its tag in ``live``. With
    ``adopt`` it is the first revision of its collection, and takes vectors that are there already. With ``index``
    it stays at its tag, whose index alone changes.

    Raises:
        ScriptError: there is nothing to move, or more than one collection, or branch, could be meant; or vectors are
            to be adopted by a collection that has a tag already, or under a tag of chunks.
        ConfigError, TagError: the collection, the tag, or the tag's recipe is unknown.
    """
    named = None if wish.head is None else _named(directory, wish.head, splice=wish.splice)
    heads = directory.map.heads if named is None else named
    if index:
        move = index_move(directory, collections, heads, collection, live=live or {})
        parents = _above(directory.branches, move.collection) if named is None else named
        return write_drafts(directory, [_draft(directory, wish, parents, "script", move)])[0]
    if adopt is not None and not is_pattern(collection):
        name = only_beginner(directory, collections, heads, collection)
    else:
        name = collection or only_mover(directory, collections, heads, to_tag, live or {})
    if is_pattern(name):
        _refuse_placing(wish, name)
        move, parents = pattern_move(
            directory, collections, name, from_tag=from_tag, to_tag=to_tag, live=live or {}, adopt=adopt
        )
        return write_drafts(directory, [_draft(directory, wish, parents, "script", move)])[0]
    parents = _above(directory.branches, name) if named is None else named
    move = move_of(directory, collections, heads, name, from_tag=from_tag, to_tag=to_tag, live=live or {})
    if adopt is not None:
        move = adopting(move, adopt)
    return write_drafts(directory, [_draft(directory, wish, parents, "script", move)])[0]


def first_revisions(
    directory: ScriptDirectory, collections: Collections, calls: Mapping[str, AdoptCall]
) -> tuple[Script, ...]:
    """Write the first revision of each of these collections, or patterns, which adopts vectors: all of them, or none.

    Raises:
        ScriptError: a collection has a revision already, or asks for a tag of chunks.
        ConfigError, TagError: a collection, its tag, or the tag's recipe is unknown.
    """
    heads = directory.map.heads
    drafts = []
    for name, call in calls.items():
        if is_pattern(name):
            move, _ = pattern_move(directory, collections, name, live={}, adopt=call)
            drafts.append(_draft(directory, Wish(), (), "script", move))
            continue
        only_beginner(directory, collections, heads, name)
        move = adopting(move_of(directory, collections, heads, name, live={}), call)
        drafts.append(_draft(directory, Wish(), (), "script", move))
    return write_drafts(directory, drafts)


def empty_revision(directory: ScriptDirectory, wish: Wish) -> Script:
    """Write a revision that moves no collection and holds statements of the team's own.

    Raises:
        MultipleHeads: there are several heads, and ``wish`` names none.
    """
    heads = directory.map.heads
    if wish.head is None and len(heads) > 1:
        raise _choice(directory.branches, heads)
    parents = heads if wish.head is None else _named(directory, wish.head, splice=wish.splice)
    return write_drafts(directory, [_draft(directory, wish, parents, "empty")])[0]


def merge_revision(directory: ScriptDirectory, wish: Wish) -> Script:
    """Write a revision that joins the branches that ``wish.head`` names, all heads by default.

    Raises:
        ConflictingHeads: they move the same collection, of which a merge would keep both.
    """
    names = wish.head or ("heads",)
    named = [revision.id for revision in directory.map.find(directory.members(names))]
    if len(named) < 2:
        raise ScriptError(
            f"A merge joins at least two revisions; {' '.join(names)} means {listed(named) or 'none'}.",
            hint="To see the heads: vecmig heads",
        )
    directory.branches.refuse_merge(named)
    parents = _named(directory, names, splice=wish.splice)
    if not wish.message:
        wish = replace(wish, message=f"merge {' and '.join(parents)}")
    return write_drafts(directory, [_draft(directory, wish, parents, "merge")])[0]


def autogenerate(
    directory: ScriptDirectory, collections: Collections, wish: Wish, *, live: Mapping[str, str] | None = None
) -> tuple[Script, ...]:
    """Write a revision for every collection whose wished tag differs from its newest one.

    Each follows the newest revision of its collection; where ``wish`` names what they follow, they follow each other.
    Gives no scripts if no collection has to move. ``live`` is as in ``new_revision``.
    """
    named = None if wish.head is None else _named(directory, wish.head, splice=wish.splice)
    heads = directory.map.heads if named is None else named
    moving = movers(directory, collections, heads, live=live or {})
    names = together(directory, collections, moving, live or {}) if named is None else tuple(moving)
    patterns = [name for name in names if is_pattern(name)]
    for name in patterns:
        _refuse_placing(wish, name)
    shared = [pattern_move(directory, collections, name, live=live or {}) for name in patterns]
    alone = [name for name in names if name not in patterns]
    moves = [move_of(directory, collections, heads, name, live=live or {}) for name in alone]
    if len(names) > 1 and wish.rev_id is not None:
        raise ScriptError(
            f"--rev-id cannot name {len(names)} revisions at once.",
            hint="Leave --rev-id out; each revision then gets an id of its own.",
        )
    drafts: list[Draft] = []
    for move in moves:
        parents = _above(_branches_with(directory, drafts), move.collection) if named is None else named
        on_top = any(draft.revision.id in parents for draft in drafts)
        if drafts and not on_top and wish.branch_labels:
            raise ScriptError(
                f"--branch-label {wish.branch_labels[0]} cannot name several branches at once.",
                hint="Leave --branch-label out; each new branch then has the name of its collection.",
            )
        each = replace(wish, branch_labels=(), depends_on=()) if on_top else wish
        drafts.append(_draft(directory, each, parents, "script", move))
        named = None if named is None else (drafts[-1].revision.id,)
    together_too = [_draft(directory, wish, parents, "script", move) for move, parents in shared]
    return write_drafts(directory, [*together_too, *drafts])


def _refuse_placing(wish: Wish, pattern: str) -> None:
    """Refuse to say where a script over a pattern stands: it follows the one that all of its collections are at."""
    for option, given in (("--head", wish.head), ("--branch-label", wish.branch_labels)):
        if given:
            raise ScriptError(
                f"{option} does not go together with {pattern!r}: it is a revision on the branch of each collection.",
                hint=f"Leave {option} out",
            )


def _named(directory: ScriptDirectory, names: tuple[str, ...], *, splice: bool) -> tuple[str, ...]:
    try:
        parents = tuple(revision.id for revision in directory.map.find(directory.members(names)))
    except MultipleHeads as error:
        raise _choice(directory.branches, error.heads) from None
    if len(set(parents)) < len(parents):
        raise ScriptError(f"{' '.join(names)} names the same revision twice.", hint="Name each once.")
    for id_ in parents:
        if directory.map.next(id_) and not splice:
            raise ScriptError(
                f"Revision {id_} is not a head: it is followed by {listed(directory.map.next(id_))}.",
                hint="Add --splice to begin a new branch at this revision.",
            )
    return parents


def _above(branches: Branches, collection: str) -> tuple[str, ...]:
    """Return what the next revision of a collection follows: the head above its newest; none before the first."""
    heads = branches.heads_above(collection)
    if len(heads) > 1:
        raise _choice(branches, heads)
    return heads


def _choice(branches: Branches, heads: Sequence[str], argument: str = "head") -> MultipleHeads:
    """Return the refusal to choose one of several heads to follow."""
    options = (f"--head {shlex.quote(branches.head_name(head))}" for head in heads)
    return MultipleHeads(argument, heads, hint=f"Add one of: {listed(options, 20)}")


def _branches_with(directory: ScriptDirectory, drafts: Sequence[Draft]) -> Branches:
    """Return the branches as they will be with these drafts."""
    moved: dict[str, str | None] = {id_: script.collection for id_, script in directory.scripts.items()}
    moved |= {draft.revision.id: draft.move.collection if draft.move else None for draft in drafts}
    # what they depend on moves no head
    return Branches(Graph([*directory.map, *(replace(draft.revision, depends_on=()) for draft in drafts)]), moved)


def _draft(
    directory: ScriptDirectory, wish: Wish, parents: tuple[str, ...], kind: Kind, move: Move | None = None
) -> Draft:
    id_ = wish.rev_id or uuid.uuid4().hex[-12:]
    if _NEW_ID.fullmatch(id_) is None:
        raise InvalidName(id_, "revision id", "a new id has 1 to 64 letters, digits and underscores")
    taken = {**directory.scripts, **directory.files}
    if id_ in taken:
        raise InvalidName(id_, "revision id", f"it is that of {shown(taken[id_].path)}")
    labels = wish.branch_labels
    if move is not None and not parents and not labels and not is_pattern(move.collection):
        labels = directory.branches.label_for(move.collection, id_)
    revision = Revision(id_, parents, labels, _dependencies(directory, wish.depends_on))
    message = wish.message.strip() or (move.message if move else "empty message")
    return Draft(revision, kind, message, _folder(directory, wish, parents), move)


def _dependencies(directory: ScriptDirectory, names: Sequence[str]) -> tuple[str, ...]:
    """Write partial ids out.

    Labels are kept: they follow their branch if its script is given another id; and ids of scripts over patterns.
    """
    kept = {label for revision in directory.map for label in revision.branch_labels}.union(directory.patterns)
    found = {name: [name] if name in kept else [r.id for r in directory.map.find(name)] for name in names}
    return tuple(one for name in names for one in found[name])


def _folder(directory: ScriptDirectory, wish: Wish, parents: Sequence[str]) -> Path:
    places = directory.config.version_locations
    if wish.version_path is not None:
        folder = wish.version_path.absolute()
        if folder.resolve() not in {place.resolve() for place in places}:
            raise ScriptError(
                f"{shown(folder)} is not a version location.", hint=f"There are: {listed(map(shown, places), 20)}"
            )
        return folder
    if len(places) == 1:
        return places[0]
    known = [
        found[id_].path.parent for found in (directory.scripts, directory.files) for id_ in parents if id_ in found
    ]
    if not known:
        raise ScriptError(
            f"There are {len(places)} version locations.", hint=f"Add --version-path: {listed(map(shown, places), 20)}"
        )
    return known[0]
