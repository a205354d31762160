"""What a collection's expressions depend on beside the record itself: chance, the time, other tables.

They are judged by the plan of a query that is not run. PostgreSQL writes it without merging what is volatile, and with
everything that a view or a simple function of SQL stands for in its place; and a reading command may ask for it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import errors as pg
from psycopg import sql

from vecmig.errors import ConfigError, UnsteadyExpression
from vecmig.model.collection import Collection
from vecmig.postgres.called import path_hint
from vecmig.postgres.named_sql import raw, statement
from vecmig.postgres.sessions import Connection

_PROBE: Final = "vecmig_probe"
#: What an expression names that is not there, or not where vecmig looks.
_UNKNOWN: Final = (pg.UndefinedFunction, pg.UndefinedObject, pg.UndefinedTable)
_CORRECT: Final = "It is SQL over the source's columns; correct it in collections.yaml."
_QUALIFY: Final = (
    "vecmig finds by itself only what is PostgreSQL's own, whatever the search_path says. Name the schema of all else "
    "in collections.yaml, like public.unaccent(title), OPERATOR(public.->) or ::public.citext."
)
#: Functions of PostgreSQL's that are called stable, and give something else in the next transaction or session.
_PASSING: Final = frozenset(
    {
        *("now", "transaction_timestamp", "statement_timestamp", "pg_backend_pid", "pg_postmaster_start_time"),
        *("pg_current_xact_id", "pg_current_xact_id_if_assigned", "pg_current_snapshot", "pg_conf_load_time"),
        *("txid_current", "txid_current_if_assigned", "txid_current_snapshot"),
    }
)
_TIME_WORD: Final = re.compile(r"\b(?:CURRENT_DATE|CURRENT_TIME|CURRENT_TIMESTAMP|LOCALTIME|LOCALTIMESTAMP)\b")
#: Literals that PostgreSQL takes for the present where it wants a time; and a time, or what becomes one, in a plan.
_PRESENT: Final = re.compile(r"'\s*(now|today|tomorrow|yesterday)\s*'", re.IGNORECASE)
_TIME: Final = re.compile(r"'[^']*'::(?:cstring|timestamp|date|time)\b")
_LITERAL: Final = re.compile(r"E'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'")
_NAME: Final = r'(?:"(?:[^"]|"")+"|[a-z_\u0080-\uffff][\w$]*)'
_CALL: Final = re.compile(rf"(?<![\w$\"])(?:({_NAME})\.)?({_NAME})\(")
_OPERATOR: Final = re.compile(r"[-+*/<>=~!@#%^&|`?]+")
#: What a node of a plan says about itself beside expressions.
_LABELS: Final = frozenset({"Node Type", "Relation Name", "Schema", "Alias", "Index Name", "CTE Name", "Function Name"})


@dataclass(frozen=True, slots=True)
class _Called:
    """A function that an expression calls, and that may give something else for the same arguments."""

    schema: str
    name: str
    signature: str
    volatile: bool
    #: Whether it came with PostgreSQL or an extension.
    supplied: bool

    def __str__(self) -> str:
        return f"{self.name}()" if self.schema == "pg_catalog" else f"{self.schema}.{self.name}()"


@dataclass(frozen=True, slots=True)
class _Expression:
    """What one expression depends on."""

    volatile: tuple[_Called, ...]
    #: What of it changes with the time.
    passing: tuple[str, ...]
    #: Tables that a sub-select of it reads.
    tables: tuple[str, ...]
    #: Functions of the user's that may read tables.
    stable: tuple[_Called, ...]


def check_expressions(
    connection: Connection, collection: Collection, relation: sql.Identifier, called: Mapping[str, str]
) -> None:
    """Make sure that text and where are expressions over the source's columns.

    Args:
        connection: a connection.
        collection: the collection.
        relation: its source.
        called: what columns are called now that had another name before.

    Raises:
        ConfigError: one of them is not; the message says why.
    """
    for field, test in (("text", "::text IS NOT NULL"), ("where", "")):
        fragment = getattr(collection, field)
        if fragment is None:
            continue
        try:
            # as a condition, because there PostgreSQL refuses aggregates and functions that give several rows
            query = sql.SQL("SELECT FROM {} WHERE {}{} LIMIT 0").format(relation, raw(fragment), sql.SQL(test))
            connection.execute(query, {})
        except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
            if isinstance(error, pg.InsufficientPrivilege):
                raise
            raise ConfigError(
                f"Collection {collection.name}: the {field} expression {fragment!r} does not work: "
                f"{error.diag.message_primary}.",
                hint=path_hint(connection, error)
                or _corrected(fragment, called, _QUALIFY if isinstance(error, _UNKNOWN) else _CORRECT),
            ) from None


def _corrected(fragment: str, called: Mapping[str, str], advice: str) -> str:
    """Say what to do about an expression that does not work; often one of its columns was renamed."""
    renamed = [f"{old} is called {new} now" for old, new in called.items() if old in fragment]
    return f"{', '.join(renamed)}. {advice}" if renamed else advice


def unseen_changes(
    connection: Connection, collection: Collection, relation: sql.Identifier, *, table: bool
) -> tuple[str, ...]:
    """Say what changes a record's text, or makes it come and go, without a change of its row.

    Args:
        connection: a connection; it may be one that only reads.
        collection: whose ``text`` and ``where`` work.
        relation: its source.
        table: whether the source is a table; what a view reads is the view's, and nothing is seen of it anyway.

    Raises:
        UnsteadyExpression: a text or a choice of records is another one each time it is read.
    """
    reasons: list[str] = []
    for field, fragment, type_ in (("text", collection.text, "::text"), ("where", collection.where, "")):
        if fragment is None:
            continue
        found = _look(connection, fragment, type_, relation, table=table)
        _refuse_chance(collection, field, found)
        if field == "text":
            _refuse_time(collection, found)
        reasons += [f"{field} depends on {name}, which changes with time" for name in found.passing]
        reasons += [f"{field} reads {name}" for name in found.tables]
        reasons += [f"{field} calls {name}, which is STABLE and may read other tables" for name in found.stable]
    return tuple(dict.fromkeys(reasons)) if table else ()


def _refuse_chance(collection: Collection, field: str, found: _Expression) -> None:
    if not found.volatile:
        return
    called = found.volatile[0]
    what = {
        "text": "its vectors would be out of date as soon as they are there, and be paid for again at each run",
        "where": "records would come and go by chance",
    }[field]
    hint = f"Take it out of {field}: in collections.yaml"
    hint += ", or keep what it gives in a column and name that." if called.supplied else "."
    if not called.supplied:
        hint += (
            " Or, if it gives the same for the same arguments and reads no table, say so: "
            f"ALTER FUNCTION {called.signature} IMMUTABLE;"
        )
    raise UnsteadyExpression(
        f"Collection {collection.name}: {field} calls {called}, which is VOLATILE: {what}.",
        state="Nothing was changed.",
        hint=hint,
    )


def _refuse_time(collection: Collection, found: _Expression) -> None:
    if found.passing:
        raise UnsteadyExpression(
            f"Collection {collection.name}: text depends on {found.passing[0]}, which changes with time: every text "
            "would be another one at each run, and be paid for again.",
            state="Nothing was changed.",
            hint="Take it out of text: in collections.yaml, or keep the time in a column and name that.",
        )


def _look(connection: Connection, fragment: str, type_: str, relation: sql.Identifier, *, table: bool) -> _Expression:
    query = statement("source/expressions", "plan", fragment=raw(fragment), type=sql.SQL(type_), source=relation)
    row = connection.execute(query, {}).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    kept_apart = any(node.get("Alias") == _PROBE for node in _nodes(plan))
    written = "\n".join(_written(plan) if table else _shown(plan))
    bare = _LITERAL.sub("''", written)
    called = _called(connection, bare)
    passing = [str(f) for f in called if f.schema == "pg_catalog" and f.name in _PASSING]
    passing += [*_TIME_WORD.findall(bare), *_presents(fragment, written)]
    return _Expression(
        volatile=tuple(f for f in called if f.volatile and kept_apart),
        passing=tuple(dict.fromkeys(passing)),
        tables=tuple(dict.fromkeys(_tables(plan, beside=False))),
        stable=tuple(f for f in called if not f.volatile and not f.supplied),
    )


def _presents(fragment: str, written: str) -> list[str]:
    """Find literals such as 'now' that became a time; one that is a text stands in the plan as it is."""
    if not _TIME.search(written):
        return []
    texts = {word.lower() for word in re.findall(rf"{_PRESENT.pattern}::(?!cstring)", written, re.IGNORECASE)}
    return [f"'{word.lower()}'" for word in _PRESENT.findall(fragment) if word.lower() not in texts]


def _called(connection: Connection, written: str) -> list[_Called]:
    calls = {(_folded(schema), _folded(name)) for schema, name in _CALL.findall(written)}
    values = {
        "schemas": [schema for schema, _ in calls],
        "names": [name for _, name in calls],
        "operators": sorted(set(_OPERATOR.findall(written))),
        "text": written,
    }
    return [_Called(*row) for row in connection.execute(statement("source/expressions", "called"), values)]


def _folded(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _written(plan: Mapping[str, Any]) -> Iterator[str]:
    for node in _nodes(plan):
        for label, value in node.items():
            if isinstance(value, str) and label not in _LABELS:
                yield value
            elif isinstance(value, list):
                yield from (text for text in value if isinstance(text, str))


def _shown(plan: Mapping[str, Any]) -> Iterator[str]:
    """Give the expression alone, without what a view selects its rows by."""
    inner = plan["Plans"][0] if plan.get("Alias") == _PROBE else plan
    yield from inner.get("Output", ())


def _tables(plan: Mapping[str, Any], *, beside: bool) -> Iterable[str]:
    """Name the tables that are read for a sub-select; ``beside``: whether the plan is part of one."""
    beside = beside or plan.get("Parent Relationship") in ("SubPlan", "InitPlan")
    if beside and "Relation Name" in plan:
        yield f"{plan['Schema']}.{plan['Relation Name']}"
    for child in plan.get("Plans", ()):
        yield from _tables(child, beside=beside)
