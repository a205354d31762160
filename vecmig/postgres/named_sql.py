"""Load the SQL of a package's ``sql/*.sql``: each statement under its name, written as SQL, not as Python."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from string import Formatter
from typing import Final, cast

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
    pieces, destroyed = _pieces(file, name)
    for relation in destroyed:
        if not _is_own(parts[relation]):
            raise TypeError(f"{name} of {file} may only destroy what is vecmig's own, not {parts[relation]!r}")
    return sql.Composed([parts[piece] if isinstance(piece, str) else piece for piece in pieces])


def script(file: str, /, **parts: sql.Composable) -> sql.Composed:
    """Return all statements of a file as one."""
    return sql.SQL(_text(file)).format(**parts)


class Fragment(sql.SQL):
    """SQL that a user wrote, in which ``%`` is no placeholder."""


def raw(text: str) -> Fragment:
    """Give a user's SQL expression, in brackets of its own. The line break ends a trailing ``--`` comment."""
    return Fragment(f"({text}\n)")


def with_plain_percent(query: sql.Composable, context: AdaptContext | None) -> bytes:
    """Write out a statement that is run with parameters, each ``%`` doubled but for the placeholders of our own SQL.

    The driver does not: a column called ``share %`` or a condition with LIKE would be read as a placeholder.
    """
    pieces: list[bytes] = []
    _write(query, context, pieces)
    return b"".join(pieces)


def _write(query: sql.Composable, context: AdaptContext | None, pieces: list[bytes]) -> None:
    is_composed, is_template = _traits(type(query))
    if is_composed:
        for part in cast(sql.Composed, query):
            _write(part, context, pieces)
    else:
        text = query.as_bytes(context)
        pieces.append(text if is_template else text.replace(b"%", b"%%"))


@cache
def _traits(kind: type[sql.Composable]) -> tuple[bool, bool]:
    """Whether SQL of a kind has parts, and whether a ``%`` in it is a placeholder.

    It is asked of the kind: each of a statement's many parts takes far longer to be told what it is.
    """
    return issubclass(kind, sql.Composed), not issubclass(kind, sql.Identifier | sql.Literal | Fragment)


def finished(query: sql.Composable) -> str:
    """Write a statement out that is run with parameters again and again: putting one together takes 0.3 ms."""
    return with_plain_percent(query, None).decode()


@cache
def _pieces(file: str, name: str) -> tuple[tuple[sql.SQL | str, ...], tuple[str, ...]]:
    """Return the pieces of a statement, SQL and names of placeholders, and which of the names it destroys."""
    text = _statements(file)[name]
    pieces: list[sql.SQL | str] = []
    for literal, placeholder, _, _ in Formatter().parse(text):
        pieces += [sql.SQL(literal)] if literal else []
        pieces += [] if placeholder is None else [placeholder]
    return tuple(pieces), tuple(_DESTROYED.findall(text))


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
