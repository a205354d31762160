"""Which of PostgreSQL's settings a session of vecmig's has of its own, whatever role, database and environment say."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from psycopg import sql

#: Nothing that others made in a schema of their choice stands in for what is PostgreSQL's own.
SEARCH_PATH: Final = "pg_catalog, pg_temp"
_PATH: Final = {"search_path": SEARCH_PATH}
#: How values become text: keys travel as text, and hashes are taken of it.
TEXT: Final = {
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "client_min_messages": "warning",
}
#: What a collection's own SQL means: a backslash, ``= NULL``, NULL in an array, what is XML, what a date is called.
MEANING: Final = {
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "xmloption": "content",
    "xmlbinary": "base64",
    "lc_numeric": "C",
    "lc_time": "C",
    "timezone_abbreviations": "Default",
}
#: Ways of the planner that one statement or another of vecmig's needs at the size of a corpus.
_PLANS: Final = (
    "bitmapscan",
    "hashagg",
    "hashjoin",
    "incremental_sort",
    "indexonlyscan",
    "indexscan",
    "material",
    "memoize",
    "mergejoin",
    "nestloop",
    "partition_pruning",
    "seqscan",
    "sort",
    "tidscan",
)
_OWN: Final = {
    # a query fails where a policy would hide rows from vecmig: a hidden row would otherwise count as covered
    "row_security": "off",
    # a role's limits are meant for its application: a runner's lock is idle for hours, an index build may take them
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    # an error that is expected, such as a lock that is taken, would end the session
    "exit_on_error": "off",
    "check_function_bodies": "on",
    # HNSW knows no other
    "default_table_access_method": "heap",
    # what PostgreSQL prints of an object is compared with what it was made as
    "quote_all_identifiers": "off",
    "gin_fuzzy_search_limit": "0",
    "restrict_nonsystem_relation_kind": "",
    "session_replication_role": "origin",
    "plan_cache_mode": "auto",
    **{f"enable_{way}": "on" for way in _PLANS},
}
#: Set in place of one value only: what else a commit waits for, beyond the server's own disk, is the team's to say.
_INSTEAD_OF: Final = {"synchronous_commit": ("off", "local")}


def lock_timeout(seconds: float | None) -> dict[str, str]:
    """Give the setting that lets a statement wait so long for a lock; None for as long as it takes."""
    return {"lock_timeout": "0" if seconds is None else f"{max(1, round(seconds * 1000))}ms"}


def session_settings(lock_wait: float | None) -> dict[str, sql.SQL]:
    """Give the parts of the statement that gives a session its settings.

    A setting that has its value already is left alone, for some are a superuser's to set; and one that this server does
    not know yet has no value.
    """
    # no NULL: where the session does not read it in an array yet, it would be a text
    settings = _PATH | TEXT | MEANING | _OWN | lock_timeout(lock_wait)
    pairs = {name: ("", value) for name, value in settings.items()} | _INSTEAD_OF
    return {
        "names": _written(tuple(pairs)),
        "values": _written(tuple(value for _, value in pairs.values())),
        "instead_of": _written(tuple(old for old, _ in pairs.values())),
    }


@lru_cache(maxsize=16)
def _written(texts: tuple[str, ...]) -> sql.SQL:
    """Write an array out, which takes as long as the server does to set what is in it."""
    return sql.SQL(sql.Literal(list(texts)).as_string(None))


def transaction_settings(more: Mapping[str, str]) -> sql.Composed:
    """Give the expressions that give a reader's open transaction its settings, and some more; they end with it."""
    one = sql.SQL("pg_catalog.set_config({}, {}, true)")
    settings = _PATH | TEXT | MEANING | dict(more)
    return sql.SQL(", ").join(one.format(sql.Literal(name), sql.Literal(value)) for name, value in settings.items())


def function_settings() -> sql.Composed:
    """Give the SET clauses of a function which runs in an application's sessions as in those of vecmig.

    The search_path is said beside them: it is a list, which a clause writes otherwise.
    """
    one = sql.SQL("SET {} = {}")
    settings = {name: value for name, value in (TEXT | MEANING).items() if name != "client_min_messages"}
    return sql.SQL(" ").join(one.format(sql.Identifier(name), sql.Literal(value)) for name, value in settings.items())


def pinned() -> frozenset[str]:
    """Name all settings that a session of vecmig's has of its own, apart from the encoding, which is said first."""
    return frozenset(_PATH | TEXT | MEANING | _OWN | _INSTEAD_OF | lock_timeout(None))
