"""What applications read: ``<collection>_live`` and ``<collection>_search``, which a cutover moves to another tag.

Whoever has read the view keeps a lock on it until his transaction ends. So the view does not name the tag: a function
does, whose body PostgreSQL puts in its place when it plans, and which is replaced without a lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from psycopg import errors as pg
from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.freshness.stamps import Stamps
from vecmig.homes.indexed import indexed_type
from vecmig.homes.payload import Payload, payload
from vecmig.homes.search import least_kept, nearest
from vecmig.ledger.access import mirror_grants, open_pick, open_search, remember_grants, restore_grants
from vecmig.model.collection import LIVE_OWN
from vecmig.postgres.named_sql import raw, statement
from vecmig.postgres.sessions import Connection
from vecmig.postgres.settings import SEARCH_PATH, function_settings
from vecmig.published.detaching import is_detached, replaced
from vecmig.published.live_columns import wanted_columns
from vecmig.source.relations import exists
from vecmig.source.source import Source

_SEARCH_NAMES: Final = ("query", "k", "tag", "chunk", "distance")
#: What ``publish`` raises where view or function cannot be replaced by what they are to be, so that they must go first.
NOT_IN_PLACE: Final = (DatabaseError, pg.InvalidTableDefinition, pg.InvalidFunctionDefinition)
#: No vector can carry it, by the vectors table's own CHECK; a view on it has no rows.
_NO_TAG: Final = ""
_NO_PAYLOAD: Final = Payload(sql.SQL("e.embedding").format(), sql.SQL("e.embedding").format())


class Published(NamedTuple):
    """What applications read of a collection, beside what they are to read."""

    #: Whether the live view is there, and whether it reads the tag.
    view: bool
    reads_tag: bool
    #: Whether the search function is there, and whether it is as it would be published now.
    search: bool
    current: bool


def columns_to_show(connection: Connection, source: Source, ledger: str) -> tuple[str, ...] | None:
    """Return the columns that a live view which is not there yet is to show, for ``publish``; None where one is.

    To find out what text and where read takes up to 150 ms in a new session: too long for the transaction of a cutover.
    """
    return None if exists(connection, source.live) else wanted_columns(connection, source, ledger)


def publish(
    connection: Connection,
    source: Source,
    stamps: Stamps | None,
    *,
    ledger: str,
    columns: bool = False,
    shown: Sequence[str] | None = None,
) -> None:
    """Point the live view and the search function at one tag, or at none, in the caller's transaction.

    Both are replaced, not dropped, so that grants and prepared statements survive; a view that is as it is to be is
    left alone, which takes no lock. The embedding column is cast to ``vector(N)``, the indexed expression, and back to
    ``vector``, so that its type stays the same when N changes; the planner sees through the outer cast. A view that
    somebody dropped comes back with the grants that it had; one that stepped aside stays there.

    Args:
        connection: the connection.
        source: the collection.
        stamps: the tag to read; None for none.
        ledger: the schema of vecmig's own tables.
        columns: whether the view's columns follow collections.yaml; otherwise a view keeps those that it has.
        shown: what ``columns_to_show`` gave for this very source; asked here otherwise.

    Raises:
        DatabaseError: a column of the view was renamed in the source, or is to go while something hangs on the view.
    """
    new_search = not has_search(connection, source)
    connection.execute(_search(connection, source, stamps))
    open_search(connection, source, born=new_search)
    connection.execute(statement("published/live_view", "create_pick", **_pick(source, stamps, ledger)))
    open_pick(connection, source, ledger)
    if not is_detached(connection, ledger, source.collection.name):
        wanted = shown if shown is not None and not columns else None
        _publish_view(connection, source, stamps, ledger=ledger, columns=columns, wanted=wanted)


def _publish_view(
    connection: Connection,
    source: Source,
    stamps: Stamps | None,
    *,
    ledger: str,
    columns: bool,
    wanted: Sequence[str] | None,
) -> None:
    present, named = _present(connection, source), _named(source)
    if present:
        remember_grants(connection, source, ledger)
    shown = list(present)
    if columns or not present:
        wanted = wanted_columns(connection, source, ledger) if wanted is None else wanted
        shown = [name for name, column in named.items() if column in wanted]
    elif source.collection.live_columns == "all":
        shown = list(named)
    if columns and set(present) - {*shown, *LIVE_OWN}:
        with replaced(connection, ledger, source.live):
            connection.execute(_view(source, stamps, ledger, shown, present=()))
            restore_grants(connection, source, ledger)
        # what belonged to the one before is back
        mirror_grants(connection, source, source.live, ledger)
        remember_grants(connection, source, ledger)
        return
    if renamed := [name for name in present if name not in (*named, *LIVE_OWN)]:
        raise _renamed(connection, source, renamed[0])
    trial = sql.Identifier(ledger, f"{source.collection.name}_trial")
    as_trial = _view(source, stamps, ledger, shown, present=present, at=trial)
    if not present or not _is(connection, source, trial, as_trial):
        connection.execute(_view(source, stamps, ledger, shown, present=present))
    if not present:
        restore_grants(connection, source, ledger)


def _is(connection: Connection, source: Source, trial: sql.Identifier, as_trial: sql.Composed) -> bool:
    """Whether the view is as it would be made now, under another name: PostgreSQL prints both alike."""
    if connection.recording:
        # nothing is made where statements are written down
        return False
    with connection.transaction(force_rollback=True):
        connection.execute(as_trial)
        values = {"view": source.live.as_string(connection), "trial": trial.as_string(connection)}
        row = connection.execute(statement("published/live_view", "same_view"), values).fetchone()
    return bool(row and row[0])


@contextmanager
def made_again(connection: Connection, source: Source, ledger: str) -> Iterator[None]:
    """Drop and publish both inside, in one transaction: who had rights on them has these afterwards."""
    remember_grants(connection, source, ledger)
    search = sql.SQL("{}({}, int, text)").format(source.search, source.pgvector.type("vector"))
    values = {"search": search.as_string(connection)}
    held = connection.execute(statement("published/live_view", "search_grants"), values).fetchall()
    yield
    if has_search(connection, source):
        for role, grantable in held:
            option = sql.SQL(" WITH GRANT OPTION" if grantable else "")
            grant = sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}{}").format(search, sql.Identifier(role), option)
            connection.execute(grant)


def reads_tag(connection: Connection, source: Source, tag: str | None, *, ledger: str) -> bool:
    """Whether the live view, as the catalogue has it, reads this tag."""
    values = _seen(connection, source, ledger) | {"tag": _NO_TAG if tag is None else tag}
    row = connection.execute(statement("published/live_view", "view_reads"), values).fetchone()
    return bool(row and row[0])


def has_search(connection: Connection, source: Source) -> bool:
    """Whether the search function is there."""
    row = connection.execute(
        statement("published/live_view", "has_search"),
        {"schema": source.home, "name": f"{source.collection.name}_search"},
    ).fetchone()
    return bool(row and row[0])


def find_published(connection: Connection, source: Source, stamps: Stamps) -> Published:
    """Compare what applications read with what is published for a tag; what it names may be called otherwise since."""
    parts = {name: statement("published/live_view", name) for name in ("view_reads", "has_search", "same_search")}
    values = {
        **_seen(connection, source, stamps.schema),
        "tag": stamps.tag,
        "schema": source.home,
        "name": f"{source.collection.name}_search",
        "body": _search_body(source, stamps).as_string(connection),
    }
    row = connection.execute(statement("published/live_view", "reads", **parts), values).fetchone()
    assert row is not None, "it gives one row"
    return Published(*row)


def refuse_foreign(connection: Connection, source: Source) -> None:
    """Refuse to take over a view or function of the team's own that is called like vecmig's.

    Raises:
        DatabaseError: there is one.
    """
    values = {"view": source.live.as_string(connection), "vectors": f"{source.collection.name}_vectors"}
    names = {"schema": source.home, "name": f"{source.collection.name}_search"}
    row = connection.execute(statement("published/live_view", "foreign"), values | names).fetchone()
    if row and any(row):
        what = source.live if row[0] else source.search
        raise DatabaseError(
            f"{what.as_string(connection)} is there already, and it is not vecmig's.",
            state="Nothing was changed.",
            hint="Rename it, or give the collection another name in collections.yaml.",
        )


def _present(connection: Connection, source: Source) -> list[str]:
    """Return the columns of the view that is there, in their order."""
    values = {"view": source.live.as_string(connection)}
    return [row[0] for row in connection.execute(statement("published/live_view", "view_columns"), values)]


def _named(source: Source) -> dict[str, str]:
    """Return the source's columns by the names that the view has for them.

    A key column keeps the name under which applications know it, whatever the source calls it now.
    """
    keys = {column.name: column.stored for column in source.key}
    return {keys.get(name, name): name for name in source.columns if name in keys or name not in keys.values()}


def _seen(connection: Connection, source: Source, ledger: str) -> dict[str, str]:
    return {
        "view": source.live.as_string(connection),
        "pick": source.pick_signature(ledger).as_string(connection),
    }


def _pick(source: Source, stamps: Stamps | None, ledger: str) -> dict[str, sql.Composable]:
    storage = source.pgvector.type(source.collection.storage)
    vector = sql.SQL("($2::{})::{}").format(indexed_type(stamps), storage) if stamps else sql.SQL("$2")
    return _parts(source, stamps) | {"pick": source.pick(ledger), "storage": storage, "vector": vector}


def _view(
    source: Source,
    stamps: Stamps | None,
    ledger: str,
    shown: Sequence[str],
    *,
    present: Sequence[str],
    at: sql.Identifier | None = None,
) -> sql.Composed:
    found = payload(stamps) if stamps is not None else _NO_PAYLOAD
    named = _named(source)
    expressions = {name: sql.SQL("s.{}").format(sql.Identifier(column)) for name, column in named.items()}
    expressions |= {"tag": sql.SQL("e.tag"), "chunk": sql.SQL("e.chunk"), "embedding": sql.SQL("p.embedding")}  # type: ignore[dict-item]  # SQL is Composable too
    # CREATE OR REPLACE VIEW keeps the columns it has, in their order, and takes new ones only at the end
    order = dict.fromkeys((*present, *(name for name in shown if name not in LIVE_OWN), *LIVE_OWN))
    # no more columns than are shown: the application could not drop a column that the view depends on
    needed = [*(named[n] for n in order if n not in LIVE_OWN), *found.columns]
    conditions = [source.condition, *([found.condition] if found.condition else [])]
    columns = [sql.SQL("{} AS {}").format(expressions[name], sql.Identifier(name)) for name in order]
    parts = _parts(source, stamps) | {
        "live": at or source.live,
        "pick": source.pick(ledger),
        "stored": found.stored,
        "columns": sql.SQL(", ").join(columns),
        "source_columns": source.column_list(needed),
        "condition": sql.SQL(" AND ").join(conditions),
    }
    return statement("published/live_view", "create_view", **parts)


def _renamed(connection: Connection, source: Source, column: str) -> DatabaseError:
    view, old = source.live.as_string(connection), sql.Identifier(column).as_string(connection)
    return DatabaseError(
        f"The live view of {source.collection.name} has a column {column}, which {source.schema}.{source.table} no "
        "longer has: it was renamed.",
        state="Nothing was changed.",
        hint=f"Rename it in the view as well, then run this again: ALTER VIEW {view} RENAME COLUMN {old} TO new_name;",
    )


def _search(connection: Connection, source: Source, stamps: Stamps | None) -> sql.Composed:
    pgvector = source.pgvector
    body = _search_body(source, stamps)
    path = f"SET search_path = {SEARCH_PATH}"
    return statement(
        "published/live_view",
        "create_search",
        search=source.search,
        query_type=pgvector.type("vector"),
        result_columns=sql.SQL(", ").join(_result_columns(source)),
        settings=sql.SQL(" ").join([sql.SQL(path), function_settings()]),
        body=sql.Literal(body.as_string(connection)),
    )


def _search_body(source: Source, stamps: Stamps | None) -> sql.Composed:
    parts = _parts(source, stamps)
    if stamps is None:
        return statement("published/live_view", "no_search_body", **parts)
    answer = statement(
        "published/live_view",
        "scan_on" if source.pgvector.iterative_scan else "scan_once",
        nearest=nearest(stamps, query=sql.SQL("$1"), k=sql.SQL("$2")),
    )
    if (least := least_kept(stamps, sql.SQL("$2"))) is not None:
        kept = statement("homes/search", "kept_candidates")
        keep = statement("homes/search", "keep_candidates", kept=sql.SQL("vecmig_kept::int"), least=least)
        answer = statement("published/live_view", "scan_deep", kept=kept, keep_candidates=keep, answer=answer)
    return statement(
        "published/live_view",
        "search_body",
        vector_dims=source.pgvector.function("vector_dims"),
        dims=sql.Literal(stamps.dims),
        answer=answer,
        **parts,
    )


def _result_columns(source: Source) -> Iterator[sql.Composed]:
    for column in source.key:
        name = f"{column.stored}_key" if column.stored in _SEARCH_NAMES else column.stored
        yield sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(column.type))


def _parts(source: Source, stamps: Stamps | None) -> dict[str, sql.Composable]:
    return {
        "live": source.live,
        "vectors": source.vectors,
        "source": source.relation,
        "keys": source.key_list(),
        "condition": raw(source.collection.where) if source.collection.where else sql.SQL("true"),
        "match": source.match_source("s", "e"),
        "tag": sql.Literal(_NO_TAG if stamps is None else stamps.tag),
        "name": sql.Literal(source.collection.name),
    }
