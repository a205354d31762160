"""Load the SQL that stands in ``sql/*.sql``: each statement under its name, written as SQL, not as Python."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final

from psycopg import sql

_NAME: Final = re.compile(r"^-- (\w+) --$", re.MULTILINE)


def statement(file: str, name: str, /, **parts: sql.Composable) -> sql.Composed:
    """Give the statement ``name`` of ``sql/<file>.sql`` with its ``{placeholders}`` filled by composed SQL."""
    return sql.SQL(_statements(file)[name]).format(**parts)


def script(file: str, /, **parts: sql.Composable) -> sql.Composed:
    """Give a whole file of statements as one."""
    return sql.SQL(_text(file)).format(**parts)


def raw(text: str) -> sql.SQL:
    """Give a user's SQL expression, in brackets of its own, for a statement without parameters (DDL).

    The line break ends a trailing ``--`` comment.
    """
    return sql.SQL(f"({text}\n)")


def expression(text: str) -> sql.SQL:
    """Give the same for a statement with parameters, where a single ``%`` would be read as a placeholder."""
    return raw(text.replace("%", "%%"))


@cache
def _statements(file: str) -> dict[str, str]:
    _, *pieces = _NAME.split(_text(file))
    return {name: body.strip() for name, body in zip(pieces[::2], pieces[1::2], strict=True)}


@cache
def _text(file: str) -> str:
    return resources.files(__package__).joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
