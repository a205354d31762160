"""Find all that vecmig made for a collection, and for itself, and drop it; by definitions, and never with CASCADE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from psycopg import errors, sql

from vecmig.errors import DatabaseError
from vecmig.freshness.change_tracking import remove_tracking
from vecmig.ledger.access import ledger_comment
from vecmig.ledger.install import lock_schema
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.schema import ledger_routines, ledger_tables
from vecmig.postgres.named_sql import Own, statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import partition_name

Kind = Literal[
    "trigger",
    "trigger function",
    "live view",
    "view function",
    "search function",
    "vectors",
    "detached",
    "partition",
    "stranger",
    "table",
    "routine",
]
#: So many objects that are others' are named.
_SHOWN: Final = 5
_COMMENTED: Final = (": the vectors of ", ", one partition per tag")


@dataclass(frozen=True, slots=True)
class Piece:
    """One object that goes; a ``stranger`` is what others attached to a vectors table."""

    kind: Kind
    oid: int
    schema: str | None
    name: str
    #: Those that tell a function from others of its name.
    arguments: str | None
    #: As people and SQL write it.
    shown: str
    owner: str
    #: Whether this role may drop it.
    mine: bool
    #: On disk, with indexes and what is stored out of line; None where it has no rows.
    bytes: int | None
    tag: str | None

    @property
    def identifier(self) -> Own:
        """Its full name."""
        return Own(self.schema, self.name) if self.schema else Own(self.name)


@dataclass(frozen=True, slots=True)
class TagSize:
    """What goes with one tag."""

    tag: str
    relation: str
    vectors: int
    records: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SchemaLeft:
    """What becomes of a schema when all that vecmig made is gone."""

    name: str
    #: Why it stays; empty where it goes.
    why: str


def of_kind(pieces: Iterable[Piece], *kinds: Kind) -> list[Piece]:
    """Choose pieces by what they are."""
    return [piece for piece in pieces if piece.kind in kinds]


# What is there -------------------------------------------------------------------------------------------------------


def present_collections(connection: Connection, schema: str, *, installed: bool) -> tuple[str, ...]:
    """Name the collections of a ledger of which it knows, or of which anything is there beside it."""
    before, after = ledger_comment(schema) + _COMMENTED[0], _COMMENTED[1]
    values = {"ledger": schema, "before": before, "after": after}
    names = {name for (name,) in connection.execute(statement("inventory/uninstalling", "collections"), values)}
    return tuple(sorted(names | set(known_collections(connection, schema) if installed else ())))


def known_collections(connection: Connection, schema: str) -> list[str]:
    """Name the collections that the ledger knows."""
    rows = connection.execute(statement("inventory/uninstalling", "known", schema=sql.Identifier(schema)))
    return [name for (name,) in rows]


def find_pieces(connection: Connection, schema: str, collection: str, *, installed: bool) -> tuple[Piece, ...]:
    """Find all objects of a collection, in the order in which they can be dropped."""
    recorded = Ledger(connection, schema).collections.recorded(collection) if installed else None
    place = recorded.vectors_schema if recorded else None
    values = {
        "ledger": schema,
        "home": recorded.home if recorded else None,
        "place": place,
        "comment": ledger_comment(schema) + collection.join(_COMMENTED),
        "vectors": f"{collection}_vectors",
        "live": f"{collection}_live",
        "search": f"{collection}_search",
        "track": f"{collection}_track",
        "pick": f"{collection}_pick",
        "partitions": list(_tags(connection, schema, collection) if installed else ()),
        "read": sql.Identifier(place or schema, f"{collection}_vectors").as_string(None),
    }
    return tuple(Piece(*row) for row in connection.execute(statement("inventory/uninstalling", "pieces"), values))


def find_own_pieces(connection: Connection, schema: str) -> tuple[Piece, ...]:
    """Find vecmig's own tables, and the routines that are no collection's."""
    values = {"ledger": schema, "tables": list(ledger_tables()), "routines": list(ledger_routines())}
    return tuple(
        Piece(*row) for row in connection.execute(statement("inventory/uninstalling", "ledger_pieces"), values)
    )


def measure_tags(
    connection: Connection, schema: str, collection: str, pieces: Iterable[Piece], *, installed: bool
) -> tuple[TagSize, ...]:
    """Count what goes with each tag."""
    known = _tags(connection, schema, collection) if installed else {}
    found = []
    for piece in of_kind(pieces, "partition", "detached"):
        count = statement("inventory/uninstalling", "count", relation=piece.identifier)
        vectors, records = connection.execute(count).fetchone() or (0, 0)
        tag = known.get(piece.name) or piece.tag or piece.shown
        found.append(TagSize(tag, piece.shown, vectors, records, piece.bytes or 0))
    return tuple(found)


def _tags(connection: Connection, schema: str, collection: str) -> dict[str, str]:
    """Give the recorded tags of a collection by their partitions."""
    query = statement("inventory/uninstalling", "tags", schema=sql.Identifier(schema))
    return {partition_name(collection, tag): tag for (tag,) in connection.execute(query, {"collection": collection})}


def revisions_of(connection: Connection, schema: str, collection: str) -> frozenset[str]:
    """Name the revisions of a collection that were ever started."""
    query = statement("inventory/uninstalling", "revisions", schema=sql.Identifier(schema))
    return frozenset(row[0] for row in connection.execute(query, {"collection": collection}))


def count_events(connection: Connection, schema: str) -> int:
    """Count the history."""
    row = connection.execute(statement("inventory/uninstalling", "events", schema=sql.Identifier(schema))).fetchone()
    return int(row[0]) if row else 0


def uninstalled_at(connection: Connection, schema: str, collection: str) -> datetime | None:
    """Give when a collection was uninstalled last, by the history."""
    query = statement("inventory/uninstalling", "uninstalled", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": collection}).fetchone()
    return row[0] if row else None


# What is others' -----------------------------------------------------------------------------------------------------


def in_the_way(connection: Connection, pieces: Sequence[Piece]) -> tuple[str, ...]:
    """Name what of others depends on pieces, or hangs on them, so that it would be lost or broken."""
    found = [row[0] for row in connection.execute(_beside_own("in_the_way"), _oids(pieces))]
    strangers = [f"table {piece.shown}, a partition that vecmig did not make" for piece in of_kind(pieces, "stranger")]
    return tuple(found + strangers)


def goes_along(connection: Connection, pieces: Sequence[Piece]) -> tuple[str, ...]:
    """Name what a team has set on pieces, which ends with them: policies, places in publications."""
    return tuple(row[0] for row in connection.execute(statement("inventory/uninstalling", "goes_along"), _oids(pieces)))


def mentions(connection: Connection, pieces: Sequence[Piece]) -> tuple[str, ...]:
    """Name the functions of others that may use a view, function or table of which their text has the name."""
    names = [piece.name for piece in of_kind(pieces, "live view", "search function", "vectors")]
    values = _oids(pieces) | {"names": names}
    return tuple(row[0] for row in connection.execute(statement("inventory/uninstalling", "mentions"), values))


def refuse_not_ours(connection: Connection, pieces: Iterable[Piece]) -> None:
    """Refuse, before anything is changed, what this role may not drop.

    Raises:
        DatabaseError: there is such an object; the message says whose each is.
    """
    others = [piece for piece in pieces if not piece.mine]
    if others:
        named = "; ".join(f"{piece.kind} {piece.shown} (owner: {piece.owner})" for piece in others[:_SHOWN])
        more = f"; and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        owners = ", ".join(sorted({piece.owner for piece in others}))
        raise DatabaseError(
            f"{connection.info.user} may not drop what others own: {named}{more}.",
            state="Nothing was changed.",
            hint=f"Run this as a role that has the rights of {owners}; a trigger comes off by its table's owner only.",
        )


def refuse_in_the_way(others: Sequence[str], command: str) -> None:
    """Refuse to drop what objects of others rest on.

    Raises:
        DatabaseError: there are some; the message names them.
    """
    if others:
        raise DatabaseError(
            f"Others depend on what would go: {'; '.join(others)}.",
            state="Nothing was changed.",
            hint=f"Drop or change these first (what is attached is detached), then run: {command}",
        )


def schemas_left(connection: Connection, ledger: str, pieces: Sequence[Piece]) -> tuple[SchemaLeft, ...]:
    """Say what becomes of the schemas that pieces lie in, or that vecmig has made, once the pieces are gone.

    That of the ledger goes where nothing else is in it; one of vectors only if vecmig has made it for this ledger.
    """
    made = connection.execute(statement("inventory/uninstalling", "made_schemas"), {"comment": _schema_comment(ledger)})
    kinds: tuple[Kind, ...] = ("vectors", "detached", "table")
    names = {name for (name,) in made} | {piece.schema for piece in of_kind(pieces, *kinds) if piece.schema}
    left = (_schema_left(connection, name, ledger, pieces) for name in sorted(names - {"public"}))
    return tuple(one for one in left if one is not None)


def _schema_left(connection: Connection, name: str, ledger: str, pieces: Sequence[Piece]) -> SchemaLeft | None:
    row = connection.execute(statement("inventory/uninstalling", "schema"), {"name": name}).fetchone()
    if row is None:
        return None
    owner, mine, comment = row
    if name != ledger and comment != _schema_comment(ledger):
        return SchemaLeft(name, "vecmig is not known to have made it; who could read vectors in it keeps USAGE")
    values = _oids(pieces) | {"name": name}
    remains = [text for (text,) in connection.execute(_beside_own("remains"), values)]
    if remains:
        return SchemaLeft(name, f"something else is in it: {', '.join(remains)}")
    return SchemaLeft(name, "" if mine else f"it belongs to {owner}")


def _beside_own(name: str) -> sql.Composed:
    """Give a statement about what is not among the objects that go."""
    return statement("inventory/uninstalling", name, own=statement("inventory/uninstalling", "own"))


def _schema_comment(ledger: str) -> str:
    return f"{ledger_comment(ledger)}: vectors"


def _oids(pieces: Iterable[Piece]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {"relations": [], "routines": [], "triggers": []}
    for piece in pieces:
        if piece.kind == "trigger":
            found["triggers"].append(piece.oid)
        elif piece.arguments is not None:
            found["routines"].append(piece.oid)
        elif piece.kind != "stranger":
            found["relations"].append(piece.oid)
    return found


# The steps ----------------------------------------------------------------------------------------------------------


def drop_pieces(connection: Connection, schema: str, collection: str, pieces: Sequence[Piece]) -> None:
    """Drop all objects of a collection, in the caller's transaction.

    The triggers go first: from then on no writer waits for anything of vecmig's.

    Raises:
        DatabaseError: something of others depends on one of them.
    """
    with _named(f"vecmig uninstall --collection {collection}"):
        if of_kind(pieces, "trigger", "trigger function"):
            remove_tracking(connection, schema, collection)
        for piece in of_kind(pieces, "live view"):
            connection.execute(statement("inventory/uninstalling", "drop_view", view=piece.identifier))
        for piece in of_kind(pieces, "view function", "search function"):
            _drop_routine(connection, piece)
        # the partitions that are attached go with the table
        _drop_tables(connection, of_kind(pieces, "vectors"))
        _drop_tables(connection, of_kind(pieces, "detached"))


def forget_collection(connection: Connection, schema: str, collection: str) -> None:
    """Delete what the ledger knows of a collection, in the caller's transaction; the history stays."""
    revisions = list(revisions_of(connection, schema, collection))
    values = {"ledger": schema, "tables": list(ledger_tables())}
    for table, column in connection.execute(statement("inventory/uninstalling", "keyed"), values).fetchall():
        _forget(connection, schema, table, column, revisions if column == "revision" else [collection])
    _forget(connection, schema, "collection", "name", [collection])


def _forget(connection: Connection, schema: str, table: str, column: str, values: list[str]) -> None:
    parts = {"table": Own(schema, table), "column": sql.Identifier(column)}
    connection.execute(statement("inventory/uninstalling", "forget", **parts), {"values": values})


def drop_ledger(connection: Connection, schema: str) -> None:
    """Drop vecmig's own tables and routines, in the caller's transaction.

    Raises:
        DatabaseError: the ledger got to know a collection meanwhile, or something of others depends on a table.
    """
    lock_schema(connection, schema)
    connection.execute(statement("inventory/uninstalling", "hold_collections", schema=sql.Identifier(schema)))
    if known := known_collections(connection, schema):
        raise DatabaseError(
            f"Somebody has begun with {', '.join(known)} meanwhile.",
            state="The ledger is as it was.",
            hint="Run: vecmig uninstall",
        )
    pieces = find_own_pieces(connection, schema)
    with _named("vecmig uninstall"):
        _drop_tables(connection, of_kind(pieces, "table"))
        for piece in of_kind(pieces, "routine"):
            _drop_routine(connection, piece)


def drop_schema(connection: Connection, name: str) -> None:
    """Drop a schema that is empty."""
    with _named("vecmig uninstall"):
        connection.execute(statement("inventory/uninstalling", "drop_schema", name=sql.Identifier(name)))


def _drop_routine(connection: Connection, piece: Piece) -> None:
    parts = {"routine": piece.identifier, "arguments": sql.SQL(piece.arguments or "")}
    connection.execute(statement("inventory/uninstalling", "drop_routine", **parts))


def _drop_tables(connection: Connection, pieces: Sequence[Piece]) -> None:
    if pieces:
        tables = sql.SQL(", ").join(piece.identifier for piece in pieces)
        connection.execute(statement("inventory/uninstalling", "drop_tables", tables=tables))


@contextmanager
def _named(command: str) -> Iterator[None]:
    """Name what depends on an object that goes."""
    try:
        yield
    except errors.DependentObjectsStillExist as error:
        refuse_in_the_way((error.diag.message_detail or "").splitlines(), command)
