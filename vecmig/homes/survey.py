"""Look at the vectors that are to be adopted, and tell those that one tag cannot have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from vecmig.errors import ConfigError
from vecmig.freshness.pending import estimated_rows
from vecmig.freshness.stamps import Stamps, norm_function
from vecmig.homes.adopting import is_of_a_value, read
from vecmig.model.adoption import AdoptedTag
from vecmig.model.tag import NORM_TOLERANCE, Tag
from vecmig.postgres.named_sql import script, statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source

#: Rows that are looked at; more than these are a sample of the table's blocks.
_SAMPLE: Final = 20_000


@dataclass(frozen=True, slots=True)
class Size:
    """The vectors of one number of dims, among those that were looked at."""

    dims: int
    vectors: int
    zero: int
    #: The smallest and the largest length of those that are not zero; None where all are.
    shortest: float | None
    longest: float | None
    #: Those that are zero behind the tag's dims.
    padded: int

    @property
    def none(self) -> bool:
        """Whether these are values that are no vectors, as ``Source.offered`` has them."""
        return self.dims == 1 and self.zero == self.vectors


def count_offered(connection: Connection, source: Source) -> int:
    """Count the records with a text and a vector that the tag which follows the source can take over."""
    adopted = source.followed
    assert adopted is not None, "it is asked of a source whose vectors are adopted"

    def counted(tried: sql.Identifier | None) -> list[tuple[Any, ...]]:
        offered = source.offered(adopted, tried=tried)
        parts = {
            "offered": offered,
            "eligible": source.eligible("s"),
            "vector_dims": source.pgvector.function("vector_dims"),
        }
        parts["dims"] = sql.Literal(Tag.parse(adopted.tag).dims)
        return connection.execute(statement("homes/adopting", "count_offered", **parts), {}).fetchall()

    ((count,),) = _looked_at(connection, counted)
    return int(count)


def survey(connection: Connection, stamps: Stamps) -> list[Size]:
    """Look at what the source offers a tag, the most frequent size first; values that are no vectors are left out.

    Raises:
        ConfigError: nothing that the expression gives is a vector.
    """
    source, adopted, pgvector = stamps.source, stamps.adopted, stamps.source.pgvector
    assert adopted is not None, "it is asked of an adopted tag"
    rows = estimated_rows(connection, source)
    percent = 100 * _SAMPLE / rows if rows > _SAMPLE and source.is_table else None

    def sizes(tried: sql.Identifier | None) -> list[tuple[Any, ...]]:
        query = stamps.statement(
            "homes/adopting",
            "survey",
            offered=source.offered(adopted, percent, tried=tried),
            read=read(stamps),
            vector_dims=pgvector.function("vector_dims"),
            vector_norm=pgvector.function(norm_function(source.collection.storage)),
            subvector=pgvector.function("subvector"),
            dims=sql.Literal(stamps.dims),
        )
        return connection.execute(query, {}).fetchall()

    found = [Size(*row) for row in _looked_at(connection, sizes)]
    vectors = [size for size in found if not size.none]
    if found and not vectors:
        raise ConfigError(
            f"Nothing that {adopted.adoption.expression} gives is a vector.",
            state="Nothing was taken over.",
            hint="Correct the expression in the revision: vecmig discover shows what the table has.",
        )
    return vectors


def _looked_at(
    connection: Connection, look: Callable[[sql.Identifier | None], list[tuple[Any, ...]]]
) -> list[tuple[Any, ...]]:
    """Look at what there is to adopt, before vecmig may have a schema; where a value is no vector, try each."""
    try:
        with connection.transaction():
            return look(None)
    except psycopg.Error as error:
        if not is_of_a_value(error):
            raise
        with connection.transaction(force_rollback=True):
            connection.execute(script("ledger/015_try_vector", schema=sql.Identifier("pg_temp")))
            return look(sql.Identifier("pg_temp", "try_vector"))


class Misfit(NamedTuple):
    """Why a tag cannot have the vectors that it is to adopt, and what to write in the revision."""

    what: str
    hint: str


def misfit(sizes: Sequence[Size], stamps: Stamps) -> Misfit | None:
    """Return why a tag cannot have these vectors; None where it can. Pure.

    Zero vectors, which cosine cannot find, are left out one by one, and are none of the reasons.
    """
    adopted, dims = stamps.adopted, stamps.dims
    assert adopted is not None, "it is asked of an adopted tag"
    expression, where = _as_vector(adopted), adopted.adoption.where
    fitting = next((size for size in sizes if size.dims == dims), None)
    others = [size for size in sizes if size.dims != dims]
    if others and fitting is None:
        return _of_another_size(expression, others, dims)
    if others:
        condition = f"vector_dims({expression}) = {dims}"
        both = f"({where}) AND {condition}" if where else condition
        what = f"{expression} gives vectors of {_named(sizes)}: they are of different models"
        hint = (
            f"Adopt those of {dims:,} dims alone, where={both!r}: the other records are missing then, and are embedded "
            "by the recipe if the revision fills. Or give them a collection of their own."
        )
        return Misfit(what, hint)
    if fitting is None or fitting.shortest is None or fitting.longest is None or Tag.parse(stamps.tag).norm != "l2":
        return None
    if max(abs(fitting.shortest - 1), abs(fitting.longest - 1)) <= NORM_TOLERANCE:
        return None
    lengths = f"{fitting.shortest:.4g} to {fitting.longest:.4g}"
    what = f"{expression} gives vectors of length {lengths}, and those of a tag with norm-l2 have length 1"
    hint = (
        f'Write m.adopt("l2_normalize({expression})") if their direction is all that counts, or give the tag '
        "norm-none. Vectors that were cut without being made length 1 again look like this, too."
    )
    return Misfit(what, hint)


def _as_vector(adopted: AdoptedTag) -> str:
    """Return the expression as functions of pgvector take it: an array or a text is none of its types."""
    expression = adopted.adoption.expression
    if adopted.plain or "::" in expression or "(" in expression:
        return expression
    return f"{expression}::vector"


def _of_another_size(expression: str, others: Sequence[Size], dims: int) -> Misfit:
    what = f"{expression} gives vectors of {_named(others)}, and the tag's have {dims:,}"
    if any(size.padded == size.vectors for size in others):
        what += f"; behind the first {dims:,} all of them are zero"
        return Misfit(what, f'Write m.adopt("subvector({expression}, 1, {dims})").')
    return Misfit(what, f"Give the tag dim-{others[0].dims}, and a recipe of that size, or adopt another column.")


def _named(sizes: Sequence[Size]) -> str:
    parts = [f"{size.dims:,} dims ({size.vectors:,})" for size in sizes]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
