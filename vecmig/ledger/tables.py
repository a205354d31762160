"""Our own tables, as the numbered files under sql/ make them. Those files are their migrations; a test compares both.

The tables name no schema: whoever runs a statement says which one holds them.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    CursorResult,
    DateTime,
    Double,
    Executable,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Select,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    literal_column,
    quoted_name,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, OID

from vecmig.postgres.sessions import Connection

#: The rows of a statement, and how many it matched.
Rows: TypeAlias = "CursorResult[*tuple[Any, ...]]"

METADATA: Final = MetaData()
_NOW: Final = text("now()")
_CLOCK: Final = text("clock_timestamp()")
_ROLE: Final = text("SESSION_USER")
_NOTHING: Final = text("'{}'")


def _moment(name: str, default: Any = None) -> Column[Any]:
    """Declare a point in time: one that the database sets, or one that may never come."""
    return Column(name, DateTime(timezone=True), server_default=default, nullable=default is None)


def _table(name: str, *parts: Any) -> Table:
    return Table(name, METADATA, *parts, implicit_returning=False)


SCHEMA_VERSION: Final = _table(
    "schema_version",
    Column("version", Integer, primary_key=True, autoincrement=False),
    _moment("installed_at", _NOW),
)

COLLECTION: Final = _table(
    "collection",
    Column("name", Text, primary_key=True),
    Column("source_schema", Text, nullable=False),
    Column("source_table", Text, nullable=False),
    Column("key_columns", ARRAY(Text), nullable=False),
    Column("key_types", ARRAY(Text), nullable=False),
    Column("text_expression", Text, nullable=False),
    Column("where_expression", Text),
    Column("storage", Text, CheckConstraint("storage IN ('vector', 'halfvec')"), nullable=False),
    Column("metric", Text, CheckConstraint("metric IN ('cosine', 'l2', 'ip')"), nullable=False),
    Column("change_tracking", Text, CheckConstraint("change_tracking IN ('triggers', 'scan')"), nullable=False),
    _moment("created_at", _NOW),
    Column("vectors_schema", Text),
    Column("live_grants", JSONB),
    Column("source_oid", OID),
    Column("key_numbers", ARRAY(SmallInteger)),
    Column("key_names", ARRAY(Text)),
    Column("column_numbers", JSONB),
    Column("home_schema", Text),
    Column("home_oid", OID),
    Column("identity_of", Text),
    Column("live_columns", JSONB(none_as_null=True)),
    Column("kept_columns", ARRAY(Text)),
    Column("mirrored", JSONB),
    Column("live_view", Text),
)

TAG: Final = _table(
    "tag",
    Column("collection", Text, ForeignKey(COLLECTION.c.name), primary_key=True),
    Column("tag", Text, CheckConstraint("tag <> ''"), primary_key=True),
    Column("dims", Integer, nullable=False),
    Column("recipe", JSONB, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("state", Text, server_default=text("'building'"), nullable=False),
    Column("canary", JSONB),
    _moment("created_at", _NOW),
    Column("text_hash", Text, server_default=text("'sha256'"), nullable=False),
    Column("home", Text, server_default=text("'partition'"), nullable=False),
    Column("adopted", JSONB(none_as_null=True)),
    Column("verified", JSONB(none_as_null=True)),
    Column("index", JSONB, server_default=_NOTHING, nullable=False),
    Column("recall", JSONB(none_as_null=True)),
    CheckConstraint("state IN ('building', 'ready', 'live', 'standby', 'retired')"),
    CheckConstraint("text_hash IN ('md5', 'sha256')"),
)

ROUTE: Final = _table(
    "route",
    Column("collection", Text, ForeignKey(COLLECTION.c.name), primary_key=True),
    Column("live", Text),
    Column("standby", Text),
    Column("candidate", Text),
    Column("shadow_share", REAL, server_default=text("0"), nullable=False),
    Column("version", BigInteger, server_default=text("0"), nullable=False),
    _moment("changed_at", _NOW),
    Column("ramp_share", REAL, server_default=text("0"), nullable=False),
    Column("shadow_tag", Text),
    Column("keep_queries", Boolean, server_default=text("false"), nullable=False),
    CheckConstraint("shadow_share BETWEEN 0 AND 1"),
    CheckConstraint("ramp_share BETWEEN 0 AND 1"),
    *(
        ForeignKeyConstraint(["collection", tag], [TAG.c.collection, TAG.c.tag])
        for tag in ("live", "standby", "candidate", "shadow_tag")
    ),
)

REVISION: Final = _table(
    "revision",
    Column("id", Text, primary_key=True),
    Column("collection", Text),
    Column("old_tag", Text),
    Column("new_tag", Text),
    Column("phase", Text, nullable=False),
    Column("checksum", Text, nullable=False),
    _moment("withdrawn_at"),
    _moment("started_at", _NOW),
    Column("started_by", Text, server_default=_ROLE, nullable=False),
    _moment("live_at"),
    _moment("updated_at", _NOW),
    _moment("held_at"),
    Column("held_by", Text),
    Column("hold_reason", Text),
    Column("index_before", JSONB(none_as_null=True)),
    CheckConstraint("phase IN ('expanded', 'backfilled', 'indexed', 'live', 'retired')"),
)

STATEMENT: Final = _table(
    "statement",
    Column("revision", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("sha256", Text, nullable=False),
    _moment("at", _NOW),
)

EVENT: Final = _table(
    "event",
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _moment("at", _CLOCK),
    Column("kind", Text, nullable=False),
    Column("revision", Text),
    Column("collection", Text),
    Column("tag", Text),
    Column("role", Text, server_default=_ROLE, nullable=False),
    Column("host", Text),
    Column("git_commit", Text),
    Column("version", Text, nullable=False),
    Column("data", JSONB, server_default=_NOTHING, nullable=False),
    Index("event_collection_at_idx", "collection", "at"),
)

CHANGE: Final = _table(
    "change",
    Column("collection", Text, nullable=False),
    Column("key", JSONB, nullable=False),
    _moment("changed_at", _CLOCK),
    Column("vector_changed_in", BigInteger),
    Column("text_changed_by", ARRAY(Text)),
    Index("change_key", "collection", text("((md5(key::text))::uuid)"), unique=True),
)

FULL_PASS: Final = _table(
    "full_pass",
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("collection", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _moment("noted_at", _CLOCK),
    Column("passed", ARRAY(Text), server_default=_NOTHING, nullable=False),
    Index("full_pass_collection_idx", "collection"),
)

REJECTED: Final = _table(
    "rejected",
    Column("collection", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("key", JSONB, nullable=False),
    Column("source_hash", Uuid, nullable=False),
    Column("reason", Text, nullable=False),
    _moment("at", _NOW),
    Index("rejected_key", "collection", text("((md5(key::text))::uuid)"), "tag", unique=True),
)

SUPERSEDED: Final = _table(
    "superseded",
    Column("collection", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("key", JSONB, nullable=False),
    Column("vector", Uuid, nullable=False),
    Index("superseded_key", "collection", text("((md5(key::text))::uuid)"), "tag", unique=True),
)

FILL: Final = _table(
    "fill",
    Column("collection", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("key", JSONB, nullable=False),
    Column("vector", Uuid, nullable=False),
    Column("source_hash", Uuid, nullable=False),
    Index("fill_key", "collection", text("((md5(key::text))::uuid)"), "tag", "vector", unique=True),
)

CONTROL: Final = _table(
    "control",
    Column("collection", Text, primary_key=True),
    Column("paused", Boolean, server_default=text("false"), nullable=False),
    Column("reason", Text),
    Column("concurrency", Integer, CheckConstraint("concurrency >= 1")),
    Column("max_rate", Double, CheckConstraint("max_rate > 0")),
    _moment("paused_at"),
    Column("paused_by", Text),
)

RUN: Final = _table(
    "run",
    Column("id", Uuid, primary_key=True),
    Column("collection", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("done", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("rate", Double, nullable=False),
    Column("concurrency", Integer, nullable=False),
    _moment("started_at", _NOW),
    _moment("seen_at", _CLOCK),
    _moment("ends_at"),
    CheckConstraint("state IN ('running', 'paused', 'throttled', 'waiting')"),
)

SPEND: Final = _table(
    "spend",
    Column("revision", Text, primary_key=True),
    Column("what", Text, CheckConstraint("what IN ('backfill', 'sync')"), primary_key=True),
    Column("tokens", BigInteger, server_default=text("0"), nullable=False),
    Column("usd", Numeric, server_default=text("0"), nullable=False),
)

EVAL: Final = _table(
    "eval",
    Column("id", Uuid, primary_key=True),
    _moment("at", _CLOCK),
    Column("collection", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("suite", Text, nullable=False),
    Column("suite_fingerprint", Text, nullable=False),
    Column("k", Integer, CheckConstraint("k >= 1"), nullable=False),
    Column("queries", Integer, nullable=False),
    Column("coverage", Double, CheckConstraint("coverage BETWEEN 0 AND 1"), nullable=False),
    Column("eligible", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("scores", JSONB, nullable=False),
    Column("per_query", JSONB, nullable=False),
    Column("distances", JSONB, nullable=False),
    Column("role", Text, server_default=_ROLE, nullable=False),
    Column("host", Text),
    Column("version", Text, nullable=False),
    Index("eval_collection_tag_at_idx", "collection", "tag", "at"),
)

SHADOW: Final = _table(
    "shadow",
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _moment("at", _CLOCK),
    Column("collection", Text, nullable=False),
    Column("live_tag", Text, nullable=False),
    Column("other_tag", Text, nullable=False),
    Column("k", Integer, nullable=False),
    Column("overlap", Double),
    Column("rbo", Double),
    Column("top_changed", Boolean),
    Column("live_ms", Double, nullable=False),
    Column("other_ms", Double),
    Column("error", Text),
    Column("query_hash", Text, nullable=False),
    Column("query", Text),
    Index("shadow_collection_live_tag_other_tag_at_idx", "collection", "live_tag", "other_tag", "at"),
)

DETACHED: Final = _table(
    "detached",
    Column("collection", Text, ForeignKey(COLLECTION.c.name), primary_key=True),
    _moment("detached_at", _CLOCK),
    Column("detached_by", Text, server_default=_ROLE, nullable=False),
    Column("tag", Text),
    Column("view", Text),
    Column("belongings", ARRAY(Text), nullable=False),
    Column("triggers", ARRAY(Text), nullable=False),
)

LEARNED_LIMIT: Final = _table(
    "learned_limit",
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("texts", Integer, CheckConstraint("texts >= 1")),
    Column("tokens", BigInteger, CheckConstraint("tokens >= 1")),
    _moment("learned_at", _CLOCK),
)

BATCH_ORDER: Final = _table(
    "batch_order",
    Column("id", Uuid, primary_key=True),
    Column("collection", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("file", Text),
    Column("batch", Text),
    Column("after_key", JSONB(none_as_null=True)),
    Column("upto_key", JSONB, nullable=False),
    Column("digests", LargeBinary, nullable=False),
    Column("texts", Integer, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("usd", Numeric, nullable=False),
    _moment("ordered_at", _CLOCK),
    Column("ordered_by", Text, server_default=_ROLE, nullable=False),
    Index("batch_order_collection_tag_idx", "collection", "tag", "ordered_at"),
)

LAST_FULL_PASS: Final = _table(
    "last_full_pass",
    Column("collection", Text, primary_key=True),
    Column("tag", Text, primary_key=True),
    _moment("at", _CLOCK),
    Column("subject", Uuid, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("textless", BigInteger, nullable=False),
    Column("idle", BigInteger, nullable=False),
    Column("beside", BigInteger, nullable=False),
)


def execute(connection: Connection, schema: str, statement: Executable) -> Rows:
    """Run a statement over these tables, which are in ``schema``, in the transaction that the session has open."""
    # quoted always: PostgreSQL has more reserved words than SQLAlchemy knows of
    options = {"schema_translate_map": {None: quoted_name(schema, quote=True)}, "preserve_rowcount": True}
    return connection.core.execute(statement, execution_options=options)


def who() -> Any:
    """Return an expression for who writes: the role, and the host that this process is on."""
    return literal_column("session_user", Text).concat(f" on {platform.node()}")


def last_of_each(
    columns: Iterable[Any], by: Iterable[Any], *, order: Iterable[Any], where: Iterable[Any]
) -> Select[Any]:
    """Select the row that comes first in ``order`` of each group ``by`` some columns."""
    nth = func.row_number().over(partition_by=tuple(by), order_by=tuple(order)).label("nth")
    rows = select(*columns, nth).where(*where).subquery()
    return select(*(column for column in rows.c if column.name != "nth")).where(rows.c.nth == 1)


def later(column: Column[Any]) -> Any:
    """Return a column of a later version of the tables as jsonb, NULL where the tables have none yet.

    A reader, or ``vecmig status``, may come before the upgrade that adds it. The table, or the alias that the column is
    taken from, is not called like one of its own columns.
    """
    return func.to_jsonb(column.table.table_valued(), type_=JSONB)[column.name]
