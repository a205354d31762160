"""Load the SQL of a package's ``sql/*.sql``: each statement under its name, written as SQL, not as Python."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final

from psycopg import sql
from psycopg.abc import AdaptContext

_NAME: Final = re.compile(r"^-- (\w+) --$", re.MULTILINE)
#: What a statement deletes from, empties, drops or takes apart.
_DESTROYED: Final = re.compile(
    r"\b(?:DELETE\s+FROM|TRUNCATE|DROP\s+TABLE|DROP\s+VIEW|DETACH\s+PARTITION)\s+(?:IF\s+EXISTS\s+|ONLY\s+)?\{(\w+)\}(?!\.)"
)
_COMMA: Final = sql.SQL(", ")
#: Lines that say why a statement is as it is; for readers of the file, so a statement begins with its first word.
_LEADING_COMMENTS: Final = re.compile(r"\A(?:\s*--.*\n)*")


class Own(sql.Identifier):
    """The name of a relation that vecmig made, and may delete from and drop; the name of a source is never one."""


def statement(file: str, name: str, /, **parts: sql.Composable) -> sql.Composed:
    """Return a statement of ``file``, a ``package/name``, with its ``{placeholders}`` filled by composed SQL.

    Raises:
        TypeError: it deletes from a relation, or drops one, that is not known to be vecmig's own.
    """
    text = _statements(file)[name]
    for destroyed in _destroyed(text):
        if not _is_own(parts[destroyed]):
            raise TypeError(f"{name} of {file} may only destroy what is vecmig's own, not {parts[destroyed]!r}")
    return sql.SQL(text).format(**parts)


def script(file: str, /, **parts: sql.Composable) -> sql.Composed:
    """Return all statements of a file as one."""
    return sql.SQL(_text(file)).format(**parts)


class Fragment(sql.SQL):
    """SQL that a user wrote, in which ``%`` is no placeholder."""


def raw(text: str) -> Fragment:
    """Give a user's SQL expression, in brackets of its own. The line break ends a trailing ``--`` comment."""
    return Fragment(f"({text}\n)")


def with_plain_percent(query: sql.Composable, context: AdaptContext | None) -> sql.Composable:
    """Double each ``%`` of a statement that is run with parameters, but for the placeholders of our own SQL.

    The driver does not: a column called ``share %`` or a condition with LIKE would be read as a placeholder.
    """
    if isinstance(query, sql.Composed):
        return sql.Composed([with_plain_percent(part, context) for part in query])
    if isinstance(query, sql.Identifier | sql.Literal | Fragment):
        return sql.SQL(query.as_string(context).replace("%", "%%"))
    return query


def finished(query: sql.Composable) -> str:
    """Write a statement out that is run with parameters again and again: putting one together takes 0.3 ms."""
    return with_plain_percent(query, None).as_string()


@cache
def _destroyed(text: str) -> tuple[str, ...]:
    return tuple(_DESTROYED.findall(text))


def _is_own(part: sql.Composable) -> bool:
    if isinstance(part, sql.Composed):
        return all(_is_own(piece) for piece in part if piece != _COMMA)
    return isinstance(part, Own)


@cache
def _statements(file: str) -> dict[str, str]:
    _, *pieces = _NAME.split(_text(file))
    return {name: _LEADING_COMMENTS.sub("", body).strip() for name, body in zip(pieces[::2], pieces[1::2], strict=True)}


@cache
def _text(file: str) -> str:
    package, _, name = file.partition("/")
    return resources.files(f"vecmig.{package}").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
