"""Read which tables of a team's own have vectors, and what their rows say, at a bounded cost. It reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Final

import psycopg
from psycopg import errors as pg
from psycopg import sql

from vecmig.inventory.layouts import Layout, layout_of, model_columns, names_a_model
from vecmig.inventory.vector_tables import VECTOR_KINDS, Attribute, Column, Index, Measured, Part, Size, Table
from vecmig.postgres.named_sql import statement
from vecmig.postgres.pgvector import Pgvector
from vecmig.postgres.sessions import Connection

_FILE: Final = "inventory/discovering"
#: Tables with more rows are never read in full.
_MOST_ROWS: Final = 100_000
#: The narrowest rows that a page of 8 kB has room for.
_ROWS_A_PAGE: Final = 226
#: All vectors of a table are read up to this size, with what is stored out of line; else those of a sample.
_MOST_BYTES: Final = 64 << 20
_SAMPLED_ROWS: Final = 2_000
#: From so many places of the table at least: what stands together was often written together, by one model.
_SAMPLED_PAGES: Final = 40
#: Vectors that are looked at in full.
_SPREAD: Final = 1_000
#: A column with more values than this says of its rows something else than their model.
_MOST_MODELS: Final = 20
#: Arrays of fewer elements are no vectors; nor is what has fewer zeros at its end padded.
_LEAST_DIMS: Final = 32
_LEAST_PADDING: Final = 8
_SECONDS: Final = 10
_LOCK_SECONDS: Final = 2
#: Why rows were not read, in other words than the server's.
_REASONS: Final[dict[type[psycopg.Error], str]] = {
    pg.QueryCanceled: f"it took longer than {_SECONDS} s",
    pg.LockNotAvailable: "another session has locked it",
}


def tables(
    connection: Connection, pgvector: Pgvector | None, is_own: Callable[[str, str], bool], ledger: str
) -> list[Table]:
    """Return the tables that have a vector, a halfvec or an array of floats, by their names.

    Args:
        connection: a connection.
        pgvector: the extension; without it there are only arrays.
        is_own: whether a relation, by schema and name, is vecmig's.
        ledger: the schema of vecmig's own tables.
    """
    schema = _quoted(connection, pgvector.schema) if pgvector else None
    rows = connection.execute(statement(_FILE, "columns"), {"pgvector": schema}).fetchall()
    found = []
    for head, columns in groupby(rows, key=lambda row: row[:6]):
        oid, schema, name, shown, kind, row_security = head
        if is_own(schema, name):
            continue
        key = connection.execute(statement(_FILE, "key"), {"oid": oid}).fetchone()
        indexes = connection.execute(statement(_FILE, "indexes"), {"oid": oid}).fetchall()
        # a name in a regular expression: what is no letter stands for itself
        pattern = "".join(letter if letter.isalnum() or letter == "_" else f"\\{letter}" for letter in name)
        readers = connection.execute(statement(_FILE, "readers"), {"table": pattern, "ledger": ledger}).fetchall()
        attributes = tuple(Attribute(*row[6:]) for row in columns)
        keyed = tuple(key[0]) if key else ()
        indexed = tuple(Index(*row) for row in indexes)
        named = tuple(row[0] for row in readers)
        found.append(Table(oid, schema, name, shown, kind, row_security, attributes, keyed, indexed, named))
    return found


def _quoted(connection: Connection, name: str) -> str:
    row = connection.execute(statement(_FILE, "quoted"), {"name": name}).fetchone()
    assert row is not None, "it gives one row"
    return str(row[0])


def vector_columns(connection: Connection, table: Table, pgvector: Pgvector | None) -> Iterator[Column]:
    """Read the vector columns of one table, each in a read-only transaction of its own.

    An array is a vector if all arrays that are seen have the same number of elements, and enough of them.
    """
    quoted = _quoted(connection, pgvector.schema) if pgvector else None
    for attribute in table.columns:
        if attribute.kind not in VECTOR_KINDS:
            continue
        column = Column(table, attribute, None, pgvector=quoted)
        try:
            with connection.transaction():
                connection.execute("SET TRANSACTION READ ONLY")
                connection.execute(f"SET LOCAL statement_timeout = '{_SECONDS}s'")
                connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
                reader = _Reader(connection, column, pgvector)
                if attribute.kind == "array" and not reader.is_vector():
                    continue
                column = replace(column, measured=reader.measure())
        except psycopg.Error as error:
            if connection.closed:
                raise
            if attribute.kind == "array":
                continue
            said = str(error.diag.message_primary or type(error).__name__)
            column = replace(column, unread=_REASONS.get(type(error), said))
        yield column


class _Reader:
    """Measures one column; a table that is large is sampled."""

    def __init__(self, connection: Connection, column: Column, pgvector: Pgvector | None) -> None:
        """Decide what is read, by the size of the table."""
        self.connection = connection
        self.column = column
        #: The rows that are read for what a count does not tell; nothing where these are all.
        self._some: sql.Composable = sql.SQL("")
        self._name = sql.Identifier(column.attribute.name)
        if pgvector is None or column.attribute.kind == "array":
            self._dims = sql.SQL("pg_catalog.array_length(s.{}, 1)").format(self._name)
            squares = "(SELECT sqrt(sum(x::double precision * x)) FROM unnest(s.{}) x)"
            self._norm = sql.SQL(squares).format(self._name)
        else:
            norm = "vector_norm" if column.attribute.kind == "vector" else "l2_norm"
            self._dims = sql.SQL("{}(s.{})").format(pgvector.function("vector_dims"), self._name)
            self._norm = sql.SQL("{}(s.{})").format(pgvector.function(norm), self._name)
        oid = {"oid": self.column.table.oid}
        row = self.connection.execute(statement(_FILE, "size"), oid).fetchone()
        assert row is not None, "it gives one row"
        pages, size, known, known_pages = row
        if known is not None:
            self._rows = round(known * pages / known_pages) if known_pages else known
        elif pages * _ROWS_A_PAGE <= _MOST_ROWS:
            self._rows = pages * _ROWS_A_PAGE
        else:
            seen, places = self._one("density", sample=_sampled(min(100.0, 100 * _SAMPLED_PAGES / pages)))
            self._rows = int(seen / max(places, 1) * pages)
        #: Whether rows are counted; otherwise estimated from those in ``_some``.
        self._exact = self._rows <= _MOST_ROWS
        if not self._exact or size > _MOST_BYTES:
            least = _SAMPLED_PAGES / max(pages, 1)
            self._some = _sampled(100 * min(1.0, max(least, _SAMPLED_ROWS / max(self._rows, 1))))

    def _all(self, query: str, /, **parts: sql.Composable) -> list[tuple[Any, ...]]:
        table = self.column.table
        parts = {"relation": sql.Identifier(table.schema, table.name), "sample": self._some, **parts}
        return self.connection.execute(statement(_FILE, query, **parts)).fetchall()

    def _one(self, query: str, /, **parts: sql.Composable) -> tuple[Any, ...]:
        return self._all(query, **parts)[0]

    @property
    def _counted(self) -> sql.Composable:
        """Which rows are counted: all, or the sample."""
        return sql.SQL("") if self._exact else self._some

    def is_vector(self) -> bool:
        """Return whether a column of arrays has what a vector has."""
        least, most, plain = self._one("array", column=self._name)
        return least is not None and least == most and least >= _LEAST_DIMS and plain

    def measure(self) -> Measured:
        """Read what the rows say."""
        counted, filled = self._one("count", column=self._name, sample=self._counted)
        rows = counted if self._exact else max(self._rows, counted)
        scale = rows / counted if counted else 0.0
        lengths = {
            column.name: self._one("lengths", column=sql.Identifier(column.name))[0]
            for column in self.column.table.columns
            if column.kind == "text"
        }
        layout = layout_of(self.column.table, self.column.attribute.name, lengths)
        parts = self._parts(layout, scale)
        model, models = self._models(scale)
        sizes = self._sizes(layout, model, parts)
        seen = sum(size.vectors for size in sizes)
        return Measured(
            rows=rows,
            exact=self._exact,
            sample=None if self._some == sql.SQL("") else seen,
            vectors=filled if self._exact else round(filled * scale),
            sizes=tuple(sizes),
            padding=self._padding(sizes),
            models=models,
            model_column=model.quoted if model else None,
            parts=parts,
            text_lengths=lengths,
        )

    def _parts(self, layout: Layout, scale: float) -> tuple[Part, ...]:
        if layout.divided_by is None or layout.names is None:
            return ()
        table, value, name = layout.names
        names: dict[str | None, str] = dict(
            self._all(
                "names",
                relation=sql.Identifier(self.column.table.schema, table),
                value=sql.Identifier(value),
                name=sql.Identifier(name),
            )
        )
        by = sql.Identifier(layout.divided_by)
        counts = dict(self._all("values", column=by, sample=self._counted, most=sql.Literal(None)))
        # one that the sample has missed is there all the same
        known = dict.fromkeys(names, 0) | {value: round(n * scale) for value, n in counts.items()}
        return tuple(Part(value, names.get(value) or "unnamed", rows) for value, rows in known.items())

    def _models(self, scale: float) -> tuple[Attribute | None, tuple[tuple[str | None, int], ...]]:
        for column, clear in model_columns(self.column.table):
            most = sql.Literal(_MOST_MODELS + 1)
            values = self._all("values", column=sql.Identifier(column.name), sample=self._counted, most=most)
            named = [value for value, _ in values if value is not None]
            if 0 < len(named) <= len(values) <= _MOST_MODELS and (clear or any(map(names_a_model, named))):
                return column, tuple((value, round(count * scale)) for value, count in values)
        return None, ()

    def _sizes(self, layout: Layout, model: Attribute | None, parts: Sequence[Part]) -> list[Size]:
        text = sql.SQL("s.{}::text")
        by = layout.divided_by and sql.Identifier(layout.divided_by)
        named: dict[str, sql.Composable] = {
            "part": text.format(by) if by else sql.SQL("NULL::text"),
            "model": text.format(sql.Identifier(model.name)) if model else sql.SQL("NULL::text"),
            "dims": self._dims,
            "norm": self._norm,
            "column": self._name,
        }
        everything = {"condition": sql.SQL("true"), "most": sql.Literal(None)}
        found = [_size(row) for row in self._all("sizes", **named, **everything)]
        # of a large table no row that is rare is looked for: that would read all of it
        for part in parts if by and self._exact else ():
            if part.value is not None and all(size.part != part.value for size in found):
                # rare in the sample; the first of its rows will do
                condition = sql.SQL("s.{} = {}").format(by, sql.Literal(part.value))
                some = {"condition": condition, "most": sql.Literal(_SPREAD), "sample": sql.SQL("")}
                found += [_size(row) for row in self._all("sizes", **named, **some)]
        return found

    def _padding(self, sizes: Sequence[Size]) -> tuple[tuple[int, int], ...]:
        """Return after how many dims the vectors of the usual size are zero, if they all are."""
        if not sizes or self.column.attribute.kind == "array":
            return ()
        dims, ends = sizes[0].dims, list[tuple[Any, ...]]()
        for most in (_SPREAD // 50, _SPREAD):
            parts = {"column": self._name, "dims": self._dims, "wanted": sql.Literal(dims), "most": sql.Literal(most)}
            ends = self._all("last_dims", **parts)
            if not ends or max(last for last, _ in ends) > dims - _LEAST_PADDING:
                return ()
        merged: dict[int, int] = {}
        for last, count in sorted(ends, reverse=True):
            # a vector may end with zeros of its own
            near = next((end for end in merged if end - last < _LEAST_PADDING), last)
            merged[near] = merged.get(near, 0) + count
        return tuple(sorted(merged.items()))


def _sampled(percent: float) -> sql.Composable:
    # the same rows each time, so that two runs say the same
    return sql.SQL("TABLESAMPLE SYSTEM ({}) REPEATABLE (1)").format(sql.Literal(round(percent, 6)))


def _size(row: tuple[Any, ...]) -> Size:
    part, model, dims, vectors, zero, infinite, least, median, most = row
    return Size(part, model, dims, vectors, zero, infinite, None if least is None else (least, median, most))
