"""Which relations of a database are vecmig's, asked over whatever connection a team's schema tool has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from vecmig.ledger.schema import ledger_tables
from vecmig.postgres.named_sql import statement

#: Runs one statement without parameters and gives its rows.
Ask = Callable[[str], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Belongings:
    """What is vecmig's in one database."""

    #: The (schema, name) of its tables and views.
    relations: frozenset[tuple[str | None, str]] = field(default=frozenset())
    #: The schemas in which nothing else lies.
    schemas: frozenset[str] = field(default=frozenset())


def own_relations(ask: Ask) -> Belongings:
    """Return what is vecmig's.

    It needs no right on any of it; without the right to read the ledger, a live view that was dropped is not known.
    """
    ledgers = dict(tuple(row) for row in ask(statement("ledger/belongings", "ledgers").as_string()))
    if not ledgers:
        return Belongings()
    names = sql.SQL(", ").join(sql.Literal(name) for name in ledgers)
    found = [tuple(row) for row in ask(statement("ledger/belongings", "relations", ledgers=names).as_string())]
    own = {(schema, name) for schema, name, made, _ in found if made or name in ledger_tables()}
    # found by the search_path, a table has no schema for these tools
    seen = {(None, name) for schema, name, _, visible in found if visible and (schema, name) in own}
    for name, readable in ledgers.items():
        if readable:
            query = statement("ledger/belongings", "live_views", schema=sql.Identifier(name))
            own |= {(row[0], row[1]) for row in ask(query.as_string())}
    shared = {schema for schema, name, *_ in found if (schema, name) not in own}
    return Belongings(frozenset(own | seen), frozenset(ledgers.keys() - shared))


def call_text(schema: str, function: str, collection: str) -> str:
    """Write the call of a function that vecmig keeps in the ledger's schema for other tools."""
    return sql.SQL("SELECT {}({})").format(sql.Identifier(schema, function), collection).as_string()
