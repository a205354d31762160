"""Say what to do about a function of a team's that names what vecmig's search_path does not lead to."""

from __future__ import annotations

import re
from typing import Any, Final

import psycopg
from psycopg import errors as pg

from vecmig.postgres.named_sql import statement

_UNKNOWN: Final = (pg.UndefinedFunction, pg.UndefinedObject, pg.UndefinedTable)
#: How the server names the function that a statement failed in; the names are quoted alike in every language.
_IN_FUNCTION: Final = re.compile(r'PL/pgSQL [^\n]*? ([^\n ]+\(.*?\)) [^\n]*|SQL [^\n]*? "((?:[^"\n]|"")+)"[^\n]*')


def path_hint(connection: psycopg.Connection[Any], error: psycopg.Error, *, own: str = "") -> str:
    """Say how a function finds what it names, where it does not under vecmig's search_path; else give an empty text.

    Args:
        connection: where the error came up; of a transaction that failed nothing can be asked, and less is said.
        error: what the driver raised.
        own: the schema of vecmig's own functions, of which nothing is said.
    """
    found = _IN_FUNCTION.match(error.diag.context or "") if isinstance(error, _UNKNOWN) else None
    if found is None:
        return ""
    signature, name = found.groups()
    try:
        row = connection.execute(
            statement("postgres/called", "called"), {"signature": signature, "name": name}
        ).fetchone()
    except psycopg.Error:
        row = None
    vectors, function, schema, quoted, sets_path = row or (None, signature or name, None, None, False)
    if sets_path or (schema is not None and schema == own):
        return ""
    where = ", ".join(filter(None, dict.fromkeys((quoted, vectors))))
    return (
        "vecmig calls it with a search_path of its own, which has only what is PostgreSQL's. Let the function say "
        f"where it looks: ALTER FUNCTION {function} SET search_path = {where or 'the schemas that it needs'};"
    )
