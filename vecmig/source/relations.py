"""Relations as PostgreSQL's catalogue has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection, by_the_roles_path

#: What pg_class calls a partitioned table.
PARTITIONED: Final = "p"


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation as the catalogue has it."""

    oid: int
    schema: str
    name: str
    #: What pg_class calls its kind.
    kind: str
    row_security: bool

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def find_relation(connection: Connection, name: Sequence[str]) -> Relation | None:
    """Look a relation up by the name that it has now."""
    values = {"name": sql.Identifier(*name).as_string(connection)}
    if len(name) > 1:
        row = connection.execute(statement("source/catalog", "source"), values).fetchone()
    else:
        with connection.transaction(), by_the_roles_path(connection):
            row = connection.execute(statement("source/catalog", "source"), values).fetchone()
    return Relation(*row) if row else None


def exists(connection: Connection, relation: sql.Identifier) -> bool:
    """Whether a relation is there."""
    row = connection.execute(statement("source/catalog", "exists"), {"name": relation.as_string(connection)}).fetchone()
    return bool(row and row[0])


def existing(connection: Connection, relations: Mapping[str, sql.Identifier]) -> list[str]:
    """Choose those relations that are there, by what the caller calls them; one round trip for all."""
    names = {relation.as_string(connection): known_as for known_as, relation in relations.items()}
    rows = connection.execute(statement("source/catalog", "existing"), {"names": list(names)}) if names else ()
    there = {name for (name,) in rows}
    return [known_as for name, known_as in names.items() if name in there]


def relation_of(connection: Connection, oid: int) -> Relation | None:
    """Look a relation up by its number, whatever it is called now."""
    row = connection.execute(statement("source/catalog", "source_of"), {"oid": oid}).fetchone()
    return Relation(*row) if row else None


def find_either(
    connection: Connection, name: Sequence[str], oid: int | None
) -> tuple[Relation | None, Relation | None]:
    """Look up the relation that has a name now, and the one that has a number."""
    if len(name) == 1:
        return find_relation(connection, name), None if oid is None else relation_of(connection, oid)
    values = {"name": sql.Identifier(*name).as_string(connection), "oid": oid}
    rows = connection.execute(statement("source/catalog", "either"), values).fetchall()
    named = next((Relation(*row[1:]) for row in rows if row[0]), None)
    return named, next((Relation(*row[1:]) for row in rows if row[1] == oid), None)


def column_names(connection: Connection, relation: Relation) -> dict[int, str]:
    """Give what the columns of a relation are called now, by their numbers."""
    return dict(connection.execute(statement("source/catalog", "column_names"), {"oid": relation.oid}).fetchall())
