"""What new revisions move: which collections, from which tag to which."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vecmig.config.collections import Collections
from vecmig.errors import ScriptError
from vecmig.model.tag import Tag
from vecmig.script.adopt_call import AdoptCall
from vecmig.script.directory import ScriptDirectory
from vecmig.script.drafts import Move
from vecmig.script.patterns import matching
from vecmig.script.script import Script
from vecmig.text import listed, shown

#: How many names of collections that are alike a message has.
_LISTED = 4


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


def together(
    directory: ScriptDirectory, collections: Collections, moving: Mapping[str, Script | None], live: Mapping[str, str]
) -> tuple[str, ...]:
    """Name what revisions are to be written for: each collection, or the pattern of a script, where all of it moves.

    Args:
        directory: the scripts.
        collections: the collections.
        moving: the collections that have to move, with the newest script of each.
        live: the live tag of those whose newest script is on hold.
    """
    found: dict[str, None] = {}
    for name, script in moving.items():
        shared = script.shared if script else None
        others = [directory[id_].collection or "" for id_ in directory.patterns[shared.id]] if shared else [name]
        newest = {one.stated.id if (one := moving.get(other)) else None for other in others}
        ends = {(collections.collections[other].tag, live.get(other)) for other in others}
        alike = shared is not None and len(others) > 1 and newest == {shared.id} and len(ends) == 1
        found[shared.collection or "" if shared is not None and alike else name] = None
    return tuple(found)


def pattern_move(
    directory: ScriptDirectory,
    collections: Collections,
    pattern: str,
    *,
    from_tag: str | None = None,
    to_tag: str | None = None,
    live: Mapping[str, str],
    adopt: AdoptCall | None = None,
) -> tuple[Move, tuple[str, ...]]:
    """Return what all collections of a pattern do together, and the script over a pattern that this follows, if any.

    Raises:
        ScriptError: no collection matches, or they differ in their tags, or are not at the same script.
    """
    directory.branches.refuse_conflicts()
    names, heads = _collections_of(pattern, collections), directory.map.heads
    for name in names if adopt is not None else ():
        only_beginner(directory, collections, heads, name)
    hint = "Name a pattern of those that go together. One alone moves by: vecmig revision --collection NAME"
    wished = {name: str(Tag.parse(to_tag)) if to_tag else _wished(collections, name) for name in names}
    _refuse_different(f"The collections of {pattern!r} ask for different tags", wished, hint)
    newest = {name: directory.newest(name, heads) for name in names}
    reached = {name: script.stated.id if script else "no revision" for name, script in newest.items()}
    _refuse_different(f"The collections of {pattern!r} are not at the same script", reached, hint)
    starts = {name: from_tag or live.get(name) or (script and script.new_tag) or "" for name, script in newest.items()}
    _refuse_different(
        f"The collections of {pattern!r} do not start from the same tag, as some have a revision on hold", starts, hint
    )
    for name in names:
        move = move_of(directory, collections, heads, name, from_tag=from_tag, to_tag=to_tag, live=live)
    first = newest[names[0]]
    if first is not None and first.shared is None:
        raise ScriptError(
            f"Revision {first.id} is for {names[0]} alone, and a script over a pattern follows one over a pattern.",
            hint=f"Run: vecmig revision --collection {shlex.quote(names[0])}",
        )
    move = replace(adopting(move, adopt) if adopt is not None else move, collection=pattern)
    return move, () if first is None else (first.stated.id,)


def _collections_of(pattern: str, collections: Collections) -> tuple[str, ...]:
    names = matching(pattern, collections.collections)
    if not names:
        raise ScriptError(
            f"No collection of {shown(collections.path)} matches {pattern!r}.",
            hint=f"It has: {listed(collections.collections) or 'none'}",
        )
    return names


def _refuse_different(what: str, values: Mapping[str, str], hint: str) -> None:
    """Refuse collections that differ, with the names of those that do."""
    if len(set(values.values())) > 1:
        named = {value: [name for name, own in values.items() if own == value] for value in values.values()}
        raise ScriptError(
            f"{what}: {'; '.join(f'{value} ({listed(names, _LISTED)})' for value, names in named.items())}.", hint=hint
        )


def only_mover(
    directory: ScriptDirectory,
    collections: Collections,
    parents: Sequence[str],
    to_tag: str | None,
    live: Mapping[str, str],
) -> str:
    """Return what has to move, where that is one collection, or all those of a script over a pattern.

    Raises:
        ScriptError: it is none, or several.
    """
    if to_tag is not None and len(collections.collections) == 1:
        return next(iter(collections.collections))
    names = together(directory, collections, movers(directory, collections, parents, live=live), live)
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


def only_beginner(directory: ScriptDirectory, collections: Collections, heads: Sequence[str], name: str | None) -> str:
    """Return the collection that adopts vectors: the one that is named, or else the only one without a revision."""
    newest = {one: directory.newest(one, heads) for one in ([name] if name else collections.collections)}
    new = [one for one, script in newest.items() if script is None]
    if len(new) == 1:
        return new[0]
    if new:
        raise ScriptError(
            f"Several collections have no revision yet: {listed(new)}.",
            hint="Add --collection NAME, or, for tables that are alike, a pattern of their names.",
        )
    begun = [f"{one} ({script.new_tag})" for one, script in newest.items() if script is not None]
    raise ScriptError(
        f"Vectors are adopted by the first revision of a collection, and there is one already: {listed(begun)}."
        if begun
        else f"{shown(collections.path)} has no collection that could adopt vectors.",
        hint="To go on to another tag: vecmig revision, without --adopt. To adopt vectors beside those, add a "
        f"collection of their own to {shown(collections.path)}",
    )


def adopting(move: Move, call: AdoptCall) -> Move:
    """Return a move that adopts vectors; what a team has is one vector a row."""
    new = Tag.parse(move.new_tag)
    if new.chunk is not None:
        raise ScriptError(
            f"Adopted vectors are one to a record, and the tag {new} cuts records into chunks.",
            hint=f"Ask for a tag with chunk-none in collections.yaml: {replace(new, chunk=None)}",
        )
    return replace(move, adopt=call)


def move_of(
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


def index_move(
    directory: ScriptDirectory,
    collections: Collections,
    parents: Sequence[str],
    name: str | None,
    *,
    live: Mapping[str, str],
) -> Move:
    """Return a move from a collection's tag to the same one, which changes its index alone.

    Raises:
        ScriptError: several collections could be meant; it has no tag yet; or it is to move to another tag.
    """
    known = collections.collections
    if name is None and len(known) > 1:
        raise ScriptError(f"It must be said whose index is to change: {listed(known)}.", hint="Add --collection NAME")
    name = name or next(iter(known), "")
    wished = collections.collection(name).tag
    newest = directory.newest(name, parents)
    tag = live.get(name) or (newest.new_tag if newest else None)
    if tag is None or wished not in (None, tag):
        what = f"is to move to {wished}" if tag is not None else "has no tag yet"
        raise ScriptError(
            f"{name} {what}, which builds an index anyway.",
            hint="Run vecmig revision without --index; how the new tag is indexed stands beside its recipe (index:)",
        )
    collections.recipe(tag)
    return Move(name, tag, tag)
