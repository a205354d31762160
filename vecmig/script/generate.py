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
from vecmig.model.tag import Tag
from vecmig.script.adopt_call import AdoptCall
from vecmig.script.branches import Branches
from vecmig.script.directory import ScriptDirectory
from vecmig.script.drafts import Draft, Kind, Move, write_drafts
from vecmig.script.errors import InvalidName, MultipleHeads, listed
from vecmig.script.graph import Graph, Revision
from vecmig.script.script import Script
from vecmig.text import shown

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
) -> Script:
    """Write a revision that moves one collection to another tag.

    The old tag is where the collection's newest revision leads, on the branch that ``wish`` names if it names one; the
    new one is what collections.yaml asks for; ``from_tag`` and ``to_tag`` say otherwise. Without ``collection`` it is
    the only one that has to move. A collection whose newest revision is on hold starts from its tag in ``live``. With
    ``adopt`` it is the first revision of its collection, and takes vectors that are there already.

    Raises:
        ScriptError: there is nothing to move, or more than one collection, or branch, could be meant; or vectors are
            to be adopted by a collection that has a tag already, or under a tag of chunks.
        ConfigError, TagError: the collection, the tag, or the tag's recipe is unknown.
    """
    named = None if wish.head is None else _named(directory, wish.head, splice=wish.splice)
    heads = directory.map.heads if named is None else named
    if adopt is not None:
        name = _only_beginner(directory, collections, heads, collection)
    else:
        name = collection or _only_mover(directory, collections, heads, to_tag, live or {})
    parents = _above(directory.branches, name) if named is None else named
    move = _move(directory, collections, heads, name, from_tag=from_tag, to_tag=to_tag, live=live or {})
    if adopt is not None:
        move = _adopting(move, adopt)
    return write_drafts(directory, [_draft(directory, wish, parents, "script", move)])[0]


def first_revisions(
    directory: ScriptDirectory, collections: Collections, calls: Mapping[str, AdoptCall]
) -> tuple[Script, ...]:
    """Write the first revision of each of these collections, which adopts vectors: all of them, or none.

    Raises:
        ScriptError: a collection has a revision already, or asks for a tag of chunks.
        ConfigError, TagError: a collection, its tag, or the tag's recipe is unknown.
    """
    heads = directory.map.heads
    drafts = []
    for name, call in calls.items():
        _only_beginner(directory, collections, heads, name)
        move = _adopting(_move(directory, collections, heads, name, live={}), call)
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
    named = [revision.id for revision in directory.map.find(names)]
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
    moves = [_move(directory, collections, heads, name, live=live or {}) for name in moving]
    if len(moves) > 1 and wish.rev_id is not None:
        raise ScriptError(
            f"--rev-id cannot name {len(moves)} revisions at once.",
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
    return write_drafts(directory, drafts)


def _named(directory: ScriptDirectory, names: tuple[str, ...], *, splice: bool) -> tuple[str, ...]:
    try:
        parents = tuple(revision.id for revision in directory.map.find(names))
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
    return Branches(Graph([*directory.map, *(draft.revision for draft in drafts)]), moved)


def _wished(collections: Collections, name: str) -> str:
    tag = collections.collection(name).tag
    if tag is None:
        raise ScriptError(
            f"{shown(collections.path)}: the collection {name} does not say which tag it should have.",
            hint=f"Add tag: under {name}, or pass --to-tag.",
        )
    return tag


def movers(
    directory: ScriptDirectory, collections: Collections, heads: Sequence[str], *, live: Mapping[str, str] | None = None
) -> dict[str, Script | None]:
    """Return the newest revision, below some heads, of each collection that asks for another tag than it leads to.

    One whose newest revision is on hold does not ask for another one if it asks for its tag in ``live``.

    Raises:
        ConflictingHeads: a collection has several newest ones.
    """
    directory.branches.refuse_conflicts()
    newest = {name: directory.newest(name, heads) for name in collections.collections}
    return {
        name: script
        for name, script in newest.items()
        if collections.collections[name].tag not in (None, script and script.new_tag, (live or {}).get(name))
    }


def _only_mover(
    directory: ScriptDirectory,
    collections: Collections,
    parents: Sequence[str],
    to_tag: str | None,
    live: Mapping[str, str],
) -> str:
    if to_tag is not None and len(collections.collections) == 1:
        return next(iter(collections.collections))
    names = tuple(movers(directory, collections, parents, live=live))
    if len(names) == 1 and to_tag is None:
        return names[0]
    if names or to_tag is not None:
        choices = listed(collections.collections if to_tag is not None else names)
        message = (
            "With --to-tag it must be said which collection is to move"
            if to_tag
            else "Several collections have to move"
        )
        raise ScriptError(
            f"{message}: {choices}.", hint="Add --collection NAME, or --autogenerate for all that have to move."
        )
    if len(collections.collections) == 1:
        return next(iter(collections.collections))  # which then says that it has nothing to move to
    raise ScriptError(
        "No collection has to move: each is at the tag that collections.yaml asks for.",
        hint=f"Change a tag in {shown(collections.path)}; for statements of your own: vecmig revision --empty",
    )


def _only_beginner(directory: ScriptDirectory, collections: Collections, heads: Sequence[str], name: str | None) -> str:
    """Return the collection that adopts vectors: the one that is named, or else the only one without a revision."""
    newest = {one: directory.newest(one, heads) for one in ([name] if name else collections.collections)}
    new = [one for one, script in newest.items() if script is None]
    if len(new) == 1:
        return new[0]
    if new:
        raise ScriptError(
            f"Several collections have no revision yet: {listed(new)}.",
            hint="Add --collection NAME: each adopts vectors by a revision of its own.",
        )
    begun = [f"{one} ({script.new_tag})" for one, script in newest.items() if script is not None]
    raise ScriptError(
        f"Vectors are adopted by the first revision of a collection, and there is one already: {listed(begun)}."
        if begun
        else f"{shown(collections.path)} has no collection that could adopt vectors.",
        hint="To go on to another tag: vecmig revision, without --adopt. To adopt vectors beside those, add a "
        f"collection of their own to {shown(collections.path)}",
    )


def _adopting(move: Move, call: AdoptCall) -> Move:
    """Return a move that adopts vectors; what a team has is one vector a row."""
    new = Tag.parse(move.new_tag)
    if new.chunk is not None:
        raise ScriptError(
            f"Adopted vectors are one to a record, and the tag {new} cuts records into chunks.",
            hint=f"Ask for a tag with chunk-none in collections.yaml: {replace(new, chunk=None)}",
        )
    return replace(move, adopt=call)


def _move(
    directory: ScriptDirectory,
    collections: Collections,
    parents: Sequence[str],
    name: str,
    *,
    from_tag: str | None = None,
    to_tag: str | None = None,
    live: Mapping[str, str],
) -> Move:
    collections.collection(name)
    newest = directory.newest(name, parents)
    old = str(Tag.parse(from_tag)) if from_tag else live.get(name) or (newest.new_tag if newest else None)
    new = str(Tag.parse(to_tag)) if to_tag else _wished(collections, name)
    if name in live and newest is not None and new == newest.new_tag and not from_tag:
        raise ScriptError(
            f"Revision {newest.id} leads {name} to {new} already, and it is on hold, or waits for one that is.",
            hint="To go forward with it: vecmig upgrade head --release. To go another way, ask for another tag.",
        )
    if old == new:
        asked = "--to-tag asks for it too" if to_tag else f"{shown(collections.path)} asks for it too"
        raise ScriptError(
            f"The newest revision of {name} already leads to {new}, and {asked}.",
            hint=f"Change the tag of {name} in {shown(collections.path)}, or pass another --to-tag.",
        )
    collections.recipe(new)
    return Move(name, old, new)


def _draft(
    directory: ScriptDirectory, wish: Wish, parents: tuple[str, ...], kind: Kind, move: Move | None = None
) -> Draft:
    id_ = wish.rev_id or uuid.uuid4().hex[-12:]
    if _NEW_ID.fullmatch(id_) is None:
        raise InvalidName(id_, "revision id", "a new id has 1 to 64 letters, digits and underscores")
    if id_ in directory.scripts:
        raise InvalidName(id_, "revision id", f"it is that of {shown(directory[id_].path)}")
    labels = wish.branch_labels
    if move is not None and not parents and not labels:
        labels = directory.branches.label_for(move.collection, id_)
    revision = Revision(id_, parents, labels, _dependencies(directory, wish.depends_on))
    message = wish.message.strip() or (move.message if move else "empty message")
    return Draft(revision, kind, message, _folder(directory, wish, parents), move)


def _dependencies(directory: ScriptDirectory, names: Sequence[str]) -> tuple[str, ...]:
    """Write partial ids out and keep labels, which follow their branch if its script is given another id."""
    labels = {label for revision in directory.map for label in revision.branch_labels}
    found = {name: directory.map.find(name) for name in names}
    return tuple(one for name in names for one in ([name] if name in labels else [r.id for r in found[name]]))


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
    known = [directory.scripts[id_].path.parent for id_ in parents if id_ in directory.scripts]
    if not known:
        raise ScriptError(
            f"There are {len(places)} version locations.", hint=f"Add --version-path: {listed(map(shown, places), 20)}"
        )
    return known[0]
