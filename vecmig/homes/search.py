"""The search over one tag, as the readers run it: put together once, so that asking costs little more than the SQL."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import BaseConnection, sql
from psycopg import errors as pg

from vecmig.errors import ConditionError, UsageError
from vecmig.freshness.stamps import Stamps
from vecmig.homes.indexed import candidates, indexed, indexed_query, indexed_type, operator, predicate
from vecmig.homes.payload import payload
from vecmig.homes.vectors import send_vectors, to_send
from vecmig.model.collection import Metric
from vecmig.postgres.named_sql import finished, statement
from vecmig.postgres.settings import lock_timeout, transaction_settings
from vecmig.source.keys import same_key
from vecmig.text import counted

#: The values of a condition's placeholders: in their order, or by their names.
Parameters = Sequence[Any] | Mapping[str, Any]

#: So many columns are named to whoever got a condition wrong.
_COLUMNS: Final = 30
_PLACEHOLDER: Final = re.compile(r"%(?:(%)|(s)|\((\w+)\)s|)")


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search."""

    #: The values of the record's key columns.
    key: tuple[Any, ...]
    #: The tag whose vectors were searched.
    tag: str
    chunk: int
    #: By the collection's metric; smaller is nearer.
    distance: float
    #: The chunk's text, or the record's where the tag does not chunk.
    text: str
    #: The record's columns.
    record: dict[str, Any]
    #: The collection's: what ``distance`` is.
    metric: Metric = "cosine"

    @property
    def score(self) -> float:
        """The cosine similarity, the inner product, or the negative l2 distance: larger is nearer."""
        return 1 - self.distance if self.metric == "cosine" else -self.distance


@dataclass(frozen=True, slots=True)
class Search:
    """One search as it is sent, but for the query."""

    stamps: Stamps
    k: int
    #: Gives the open transaction what the search needs; it ends with it.
    settings: str
    query: str
    #: The names of the condition's placeholders, in their order.
    names: tuple[str, ...] = ()
    #: Whether one plan serves every question: what a condition leaves over depends on its values.
    steady: bool = True
    #: The condition as it was asked for.
    where: str | None = None

    def values(self, vector: NDArray[np.float32], params: Parameters = ()) -> dict[str, Any]:
        """Give the parameters of ``query``.

        Raises:
            UsageError: the condition's placeholders and ``params`` do not fit together.
        """
        if isinstance(params, Mapping):
            wanted = {name.removeprefix("w_"): name for name in self.names}
            if missing := wanted.keys() - params.keys():
                raise UsageError(f"params lacks {', '.join(sorted(missing))}, which where asks for.")
            own = {inner: params[name] for name, inner in wanted.items()}
        else:
            if len(self.names) != len(params):
                placeholders, values = counted(len(self.names), "placeholder"), counted(len(params), "value")
                raise UsageError(f"where has {placeholders}, and {values} came with it.")
            own = dict(zip(self.names, params, strict=True))
        return own | {"query": to_send(vector, self.stamps.source.collection.storage)}

    def hits(self, rows: Iterable[tuple[Any, ...]]) -> list[Hit]:
        """Read the rows that ``query`` gives."""
        tag, metric = self.stamps.tag, self.stamps.source.collection.metric
        return [
            Hit(tuple(key), tag, chunk, distance, text, record, metric) for *key, chunk, distance, text, record in rows
        ]


@lru_cache(maxsize=64)
def new_search(
    stamps: Stamps,
    k: int,
    *,
    where: str | None = None,
    exact: bool = False,
    ef_search: int | None = None,
    lock_wait: float | None = None,
) -> Search:
    """Put a search together; the same one is kept, for that takes longer than a short search.

    Args:
        stamps: the tag to search.
        k: how many chunks to give.
        where: a condition over the source's columns, with psycopg's placeholders; %% is a percent sign.
        exact: read every vector, and use no index.
        ef_search: how many candidates HNSW keeps; None for the database's setting, or more where the index wants that.
        lock_wait: seconds that it waits for a lock before it gives up; None for what the session has.

    Raises:
        UsageError: k or ef_search is out of range, or ``where`` has a percent sign that is neither.
    """
    if k < 1:
        raise UsageError(f"k is {k}; at least 1 is needed.")
    if ef_search is not None and not 1 <= ef_search <= 1000:
        raise UsageError(f"ef_search is {ef_search}; pgvector takes 1 to 1000.")
    condition, names = (None, ()) if where is None else _condition(where)
    source = stamps.source
    query = stamps.statement(
        "homes/search",
        "search",
        nearest=nearest(stamps, query=sql.SQL("%(query)s"), k=sql.Literal(k), where=condition, exact=exact),
        n_keys=source.alias_list("n"),
        same_record=same_key(source.key, source.aliases_of("r"), source.aliases_of("n")),
        same_source=source.match("n", "s"),
        same_vector=source.match_stored("n", "v"),
        vectors=source.vectors,
        tag_literal=sql.Literal(stamps.tag),
        source=source.relation,
    )
    limit = {} if lock_wait is None else lock_timeout(lock_wait)
    given = transaction_settings(_settings(stamps, exact=exact, ef_search=ef_search) | limit)
    least = None if exact or ef_search is not None else least_kept(stamps, sql.Literal(k))
    if least is not None:
        kept = statement("homes/search", "kept_candidates")
        given = sql.SQL("{}, {}").format(given, statement("homes/search", "keep_candidates", kept=kept, least=least))
    settings = statement("postgres/connect", "settle_transaction", settings=given)
    return Search(stamps, k, settings.as_string(), finished(query), names, where is None, where)


def fetch(connection: psycopg.Connection[Any], search: Search, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run a search in a transaction of its own, in one round trip; the connection knows how to send vectors.

    What a pipeline sends at once is one transaction to the server, without BEGIN and COMMIT. Whether statements are
    prepared is for the connection to say: it saves half of a short search.
    """
    (rows,) = fetch_each(connection, search, [values])
    return rows


def fetch_each(
    connection: psycopg.Connection[Any], search: Search, queries: Iterable[Mapping[str, Any]]
) -> list[list[tuple[Any, ...]]]:
    """Run a search for several queries, in one transaction and one round trip; return the rows of each."""
    with connection.pipeline():
        connection.execute(search.settings, prepare=True)
        cursors = [connection.execute(search.query, values, prepare=search.steady) for values in queries]
    return [cursor.fetchall() for cursor in cursors]


def search_each(
    connection: psycopg.Connection[Any],
    stamps: Stamps,
    vectors: Iterable[NDArray[np.float32]],
    k: int,
    *,
    exact: bool = False,
) -> list[list[Hit]]:
    """Return the k chunks of a tag nearest to each of several query vectors of shape (dims,), nearest first."""
    search = new_search(stamps, k, exact=exact)
    send_vectors(connection.adapters)
    return [search.hits(rows) for rows in fetch_each(connection, search, map(search.values, vectors))]


def _settings(stamps: Stamps, *, exact: bool, ef_search: int | None) -> dict[str, str]:
    settings: dict[str, str] = {}
    if not exact and stamps.source.pgvector.iterative_scan:
        settings |= {"hnsw.iterative_scan": "strict_order"}
    if ef_search is not None:
        settings["hnsw.ef_search"] = str(ef_search)
    return settings


def _condition(where: str) -> tuple[sql.Composable, tuple[str, ...]]:
    """Read a team's condition with psycopg's placeholders; each becomes one of ours."""
    names: list[str] = []

    def placeholder(match: re.Match[str]) -> str:
        percent, positional, name = match.groups()
        if percent:
            return "%%"
        if not positional and not name:
            raise UsageError(
                f"where has a % that is no placeholder: {where}", hint="Write %% for a percent sign, %s for a value"
            )
        names.append(f"w_{name}" if name else f"w_{len(names)}")
        return f"%({names[-1]})s"

    text = _PLACEHOLDER.sub(placeholder, where)
    if len({name.removeprefix("w_").isdecimal() for name in names}) > 1:
        raise UsageError(f"where has placeholders with and without names: {where}")
    # the line break ends a trailing comment
    return sql.SQL("({}\n)").format(_Sql(text)), tuple(dict.fromkeys(names))


class _Sql(sql.SQL):
    """A team's own SQL with our placeholders in it; braces in it mean nothing."""


# What goes wrong ---------------------------------------------------------------------------------------------------


@contextmanager
def blamed(search: Search) -> Iterator[None]:
    """Say what the database has against the condition of a search, where it is that.

    Raises:
        ConditionError: it does not parse, names what is not there, or does not work with its values.
    """
    try:
        yield
    except psycopg.Error as error:
        if search.where is None or not (found := _blame(search, error)):
            raise
        source = search.stamps.source
        raise ConditionError(
            f"where does not work: {found}.",
            hint=f"Correct it. It is a condition over {source.schema}.{source.table}, whose columns are: "
            f"{', '.join(source.columns[:_COLUMNS])}{', …' if len(source.columns) > _COLUMNS else ''}",
        ) from error


def _blame(search: Search, error: psycopg.Error) -> str:
    """Say what is wrong with the condition of a search, and at which place; empty where it is something else."""
    assert search.where is not None
    place = _position(search.query, search.where, int(error.diag.statement_position or 0))
    if place is not None:
        return f"{error.diag.message_primary} (at character {place} of {search.where})"
    state = error.sqlstate or ""
    # noticed behind it, so that the message names what is ours
    if isinstance(error, pg.SyntaxError):
        return f"syntax error (at the end of {search.where})"
    # pgvector's own errors are data_exception itself
    if (state.startswith("22") and state != "22000") or isinstance(error, pg.CardinalityViolation):
        return f"{error.diag.message_primary} (in {search.where}, or in a value for it)"
    return ""


def _position(query: str, where: str, at: int) -> int | None:
    """Return which character of a condition is character ``at`` of the statement as the driver has sent it.

    The driver numbers the placeholders by their first place. None where the character is not in the condition.
    """
    condition = _condition(where)[0].as_string()
    head, _, _ = query.partition(condition)
    numbers: dict[str, int] = {}

    def sent(match: re.Match[str]) -> str:
        percent, _, name = match.groups()
        return "%" if percent else f"${numbers.setdefault(name, len(numbers) + 1)}"

    # one more for the bracket before it
    left, given = at - 2 - len(_PLACEHOLDER.sub(sent, head)), 0
    for ours, theirs in zip(_pieces(condition[1:-2]), _pieces(where), strict=True):
        length = len(_PLACEHOLDER.sub(sent, ours))
        if 0 <= left < length:
            return given + 1 + (left if len(ours) == len(theirs) == length else 0)
        left, given = left - length, given + len(theirs)
    return None


def _pieces(condition: str) -> list[str]:
    """Cut a condition before and behind each placeholder."""
    ends = [0, *(end for match in _PLACEHOLDER.finditer(condition) for end in match.span()), len(condition)]
    return [condition[one:other] for one, other in itertools.pairwise(ends)]


# Query vectors -----------------------------------------------------------------------------------------------------


#: Asked of a connection for ``allow_preparing``.
WHOSE_SESSION: Final = "SELECT pg_catalog.pg_backend_pid()"


def allow_preparing(connection: BaseConnection[Any], pid: int) -> None:
    """Let a connection prepare statements if the process that answers it is its own.

    A pooler invents the number that it names to its client, and may hand each transaction to another session, where a
    prepared statement is not known.
    """
    connection.prepare_threshold = 1 if pid == connection.info.backend_pid else None


def nearest(
    stamps: Stamps,
    *,
    query: sql.Composable,
    k: sql.Composable,
    where: sql.Composable | None = None,
    exact: bool = False,
) -> sql.Composed:
    """The search itself: the k chunks nearest to a query vector, as (key…, chunk, distance).

    One statement serves the search function, the reader, and what the planner is asked: whether it uses the index.

    Args:
        stamps: the tag to search.
        query: the vector.
        k: how many.
        where: one more condition on the source's columns.
        exact: order by an expression that no index has.
    """
    source, found, times = stamps.source, payload(stamps), candidates(stamps)
    ranked = times is not None and not exact
    conditions = filter(None, (source.condition, found.condition, where))
    vector_type = indexed_type(stamps)
    more: dict[str, sql.Composable] = {"order": sql.SQL(" + 0") if exact else sql.SQL("")}
    if ranked:
        more = {
            "c_keys": source.alias_list("c"),
            "aliases": source.alias_list(),
            "indexed": indexed(stamps, found.stored),
            "index_operator": operator(stamps),
            "indexed_query": indexed_query(stamps, sql.SQL("{}::{}").format(query, vector_type)),
            "candidates": sql.Literal(times),
            "has": predicate(stamps, found.stored) or sql.SQL("true"),
        }
    return statement(
        "homes/search",
        "reranked" if ranked else "nearest",
        keys=source.column_list(found.columns),
        s_keys=source.key_list("s"),
        embedding=sql.SQL("({})").format(found.vector),
        operator=source.pgvector.operator(source.collection.metric),
        index_type=vector_type,
        query=query,
        k=k,
        condition=sql.SQL(" AND ").join(conditions),
        vectors=source.vectors,
        source=source.relation,
        match=source.match_source("s", "e"),
        tag=sql.Literal(stamps.tag),
        **more,
    )


def least_kept(stamps: Stamps, k: sql.Composable) -> sql.Composed | None:
    """Return how many candidates HNSW has to keep for a search at least; None where its usual number will do."""
    times, said = candidates(stamps), stamps.index.ef_search
    if times is None:
        return None if said is None else sql.SQL("{}").format(sql.Literal(said))
    return sql.SQL("greatest({}::bigint * {}, {})").format(k, sql.Literal(times), sql.Literal(said or 1))
