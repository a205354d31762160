"""Nothing that deletes or drops can be handed the source: a statement refuses whatever is not vecmig's own."""

from __future__ import annotations

import re

import pytest
from psycopg import sql

from support.source import PACKAGE
from vecmig.postgres.named_sql import Own, statement

SOURCE = sql.Identifier("public", "documents")
#: Everything in a statement that takes rows or relations away, as a reader of the SQL sees it.
DESTROYS = re.compile(
    r"(?:DELETE FROM|TRUNCATE|DROP (?:TABLE|VIEW)|DETACH PARTITION)\s+(?:ONLY |IF EXISTS )?\{(\w+)\}(?!\.)"
)


def _destructive() -> list[tuple[str, str, str]]:
    found = []
    for path in sorted(PACKAGE.glob("*/sql/*.sql")):
        _, *pieces = re.split(r"^-- (\w+) --$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for name, text in zip(pieces[::2], pieces[1::2], strict=True):
            file = f"{path.parent.parent.name}/{path.stem}"
            found += [(file, name, destroyed) for destroyed in DESTROYS.findall(text)]
    return found


def test_the_statements_that_destroy_are_found() -> None:
    names = {name for _, name, _ in _destructive()}
    assert {"sweep_gone", "sweep_emptied", "drop_partition", "detach", "drop", "drop_tables", "drop_view"} <= names


@pytest.mark.parametrize(("file", "name", "destroyed"), _destructive())
def test_a_statement_refuses_to_destroy_the_source(file: str, name: str, destroyed: str) -> None:
    with pytest.raises(TypeError, match="may only destroy what is vecmig's own"):
        statement(file, name, **{destroyed: SOURCE})
    listed = sql.SQL(", ").join([Own("public", "documents_vectors"), SOURCE])
    for disguised in (listed, sql.SQL("public.documents"), sql.Composed([sql.SQL("public.documents")])):
        with pytest.raises(TypeError, match="may only destroy what is vecmig's own"):
            statement(file, name, **{destroyed: disguised})


def test_it_takes_what_is_its_own() -> None:
    dropped = statement("inventory/uninstalling", "drop_tables", tables=sql.SQL(", ").join([Own("v", "a"), Own("b")]))
    assert dropped.as_string(None) == 'DROP TABLE "v"."a", "b"'
