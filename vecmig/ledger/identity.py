"""Find a collection's source by its oid and its columns' numbers, which no renaming changes; elsewhere by names."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from vecmig.errors import ConfigError, DatabaseError
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.recorded import Recorded
from vecmig.model.collection import VECTOR_COLUMNS, Collection
from vecmig.postgres.sessions import Connection
from vecmig.source.catalog import describe, no_source
from vecmig.source.facts import find_facts
from vecmig.source.relations import Relation, find_either, find_relation
from vecmig.source.resolving import adoption_problem
from vecmig.source.source import Source

#: What to do about a key column that is called like a column of the vectors now, which no key: may name.
_LEFT: Final = "leave key: of {} as it is, because the vectors have a column of that name"
#: What has no rows of its own: to drop one and create another under its name is how it is altered.
_DERIVED = ("v", "m")


class SourceReplaced(DatabaseError):
    """The name of a source leads to another relation than the one whose vectors are there."""

    def __init__(self, message: str, collection: str, *, hint: str) -> None:
        super().__init__(message, state="Nothing was changed; the vectors are kept.", hint=hint)
        #: What says that they are one.
        self.command = adopting(collection)


def adopting(collection: str) -> str:
    """Give the command with which a person says that another relation is the source now."""
    return f"vecmig adopt-source {shlex.quote(collection)}"


def find_source(
    ledger: Ledger,
    collection: Collection,
    *,
    expressions: bool = True,
    changes: bool = True,
    even_replaced: bool = False,
) -> Source:
    """Find the source of a collection, as it is configured or as it was recorded, and check both against each other.

    A relation or a key column that was renamed is found under its new name, of which ``notes`` tell.

    Args:
        ledger: what is recorded, on the connection to look on.
        collection: the collection.
        expressions: whether to make sure that text and where work.
        changes: whether, beyond that, to see what they change with; a reader need not know.
        even_replaced: go on with the relation that has the name now, where it is another one than before.

    Raises:
        ConfigError: the source, or a column of the key, does not exist or does not fit.
        DatabaseError: the key has a type that its vectors cannot follow.
        SourceReplaced: the name leads to another relation, which only a person can tell to be the same.
    """
    connection = ledger.connection
    recorded = ledger.collections.recorded(collection.name)
    if recorded is None:
        named = find_relation(connection, collection.source)
        if named is None:
            raise no_source(connection, collection)
        return describe(
            connection,
            collection,
            named,
            home=named.schema,
            vectors_schema=ledger.vectors_schema,
            expressions=expressions,
            changes=changes,
        )
    named, before = find_either(connection, collection.source, recorded.oid)
    relation = named or before
    if relation is None:
        raise no_source(connection, collection)
    if is_replaced(recorded, named, before) and not even_replaced:
        assert named is not None, "a name that leads nowhere is followed"
        raise _replaced(collection, named, before)
    notes = [_renamed_source(collection, relation)] if named is None else []
    called: dict[str, str] = {}
    key, adopted = collection.key, recorded.adopted
    facts = find_facts(connection, relation.oid)
    if relation.oid == recorded.oid:
        names = facts.names
        called = _called(recorded, names)
        adopted = tuple(one.renamed(names) for one in adopted)
        key, renamed = _present_key(collection, recorded, called)
        notes += renamed
    source = describe(
        connection,
        replace(collection, source=(relation.schema, relation.name), key=key),
        relation,
        home=recorded.home,
        vectors_schema=recorded.vectors_schema,
        stored=recorded.stored if len(recorded.stored) == len(key) else None,
        called=called,
        notes=tuple(notes),
        expressions=expressions,
        changes=changes,
        facts=facts,
    )
    if not even_replaced:
        recorded.require_key(source)
    source = replace(source, adopted=adopted, derived=recorded.derived, indexes=recorded.indexes)
    return _following(connection, source) if expressions else source


def _following(connection: Connection, source: Source) -> Source:
    """Let a tag go that follows a column which is gone, or which gives no vector any more.

    Raises:
        ConfigError: it is where the tag's vectors live.
    """
    followed = source.followed
    if followed is None or not (why := adoption_problem(connection, source, followed)):
        return source
    said, name = followed.adoption.expression, source.collection.name
    if followed.adoption.in_place:
        raise ConfigError(
            f"Collection {name}: the vectors of {followed.tag} live in {said}, which gives none any more: {why}.",
            hint="Bring the column back as it was. Without it these vectors are gone: go forward to a tag that has its "
            "own.",
        )
    left = tuple(replace(one, follows=one.follows and one.tag != followed.tag) for one in source.adopted)
    note = f"{followed.tag} of {name} does not follow {said} any more, and keeps the vectors that it has: {why}"
    return replace(source, adopted=left, notes=(*source.notes, note))


def is_replaced(recorded: Recorded, named: Relation | None, before: Relation | None) -> bool:
    """Whether the name of a source leads to another relation, and it is not for vecmig to say that it is the same."""
    if recorded.oid is None or named is None or named.oid == recorded.oid:
        return False
    return before is not None or named.kind not in _DERIVED


def _replaced(collection: Collection, named: Relation, before: Relation | None) -> SourceReplaced:
    name, adopt = collection.name, adopting(collection.name)
    if before is None:
        return SourceReplaced(
            f"The table whose vectors {name} has is gone; {named} is another one.",
            name,
            hint=f"If {named} has its records now, run: {adopt}",
        )
    return SourceReplaced(
        f"{named} is another table than the one whose vectors {name} has: that is called {before} now.",
        name,
        hint=f"If {named} has its records now, run: {adopt}\n"
        f"If {before} still has them, write source: {before} in collections.yaml.",
    )


def _renamed_source(collection: Collection, relation: Relation) -> str:
    written = ".".join(collection.source)
    return f"collections.yaml names {written}, which is called {relation} now: correct source: of {collection.name}"


def _called(recorded: Recorded, names: dict[int, str]) -> dict[str, str]:
    """Give what columns are called now that had another name when they were written down."""
    return {
        name: names[number] for name, number in recorded.numbers.items() if number in names and names[number] != name
    }


def _present_key(
    collection: Collection, recorded: Recorded, called: dict[str, str]
) -> tuple[tuple[str, ...], Iterable[str]]:
    """Give what the key columns are called now, and what to tell of it.

    Whoever names the key as it was when it was written down, or as the vectors table has it, means the same columns.
    """
    then = recorded.collection.key
    if collection.key not in (then, recorded.stored):
        return collection.key, ()
    now = tuple(called.get(name, name) for name in then)
    return now, (
        f"collections.yaml names the key column {name}, which is called {present} now: "
        + (_LEFT if present in VECTOR_COLUMNS else "correct key: of {}").format(collection.name)
        for name, present in zip(collection.key, now, strict=True)
        if name != present
    )
