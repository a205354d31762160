"""The table on the page about grants is true, cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from support.embedding import vector
from support.lab import SMALL, Lab
from support.postgres import Connect, roles
from support.source import ROOT

Connection = psycopg.Connection[Any]

_HEAD = ["role", "source", "live view", "search", "vectors table", "a partition", "vecmig's tables"]
_POLICY = (
    "ALTER TABLE documents ENABLE ROW LEVEL SECURITY; "
    "CREATE POLICY mine ON documents USING (id = 3); GRANT SELECT ON documents TO asking"
)
_VIEW = (
    f"{_POLICY}; CREATE VIEW shown WITH (security_invoker = true) AS SELECT * FROM documents; "
    "GRANT SELECT ON shown TO asking"
)
_DEFAULTS = "; ".join(
    f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO asking"
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS", "SCHEMAS")
)
#: What makes each row of the table: before vecmig runs, and after it.
_ROWS = {
    "the owner of the source, who runs vecmig": ("", ""),
    "may `SELECT` from the source": ("GRANT SELECT ON documents TO asking", ""),
    "the same, where a policy of the source shows some records": (_POLICY, ""),
    "the source is a view over such a table, granted by hand as above": (
        _VIEW,
        "GRANT USAGE ON SCHEMA vecmig TO asking; GRANT SELECT ON shown_vectors, shown_live TO asking",
    ),
    "no right on the source, all rights by `ALTER DEFAULT PRIVILEGES`": (_DEFAULTS, ""),
    "no right on the source, and none by default": ("", ""),
}


def _table() -> dict[str, list[str]]:
    lines = (ROOT / "docs" / "grants.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    at = cells.index(_HEAD)
    return {row[0]: row[1:] for row in cells[at + 1 :] if len(row) == len(_HEAD) and row[0] != "---"}


@pytest.fixture
def asking(connection: Connection) -> Iterator[str]:
    """A role of its own."""
    with roles(connection, "asking"):
        yield "asking"


def test_each_row_of_the_page_is_tried_here() -> None:
    assert set(_table()) == set(_ROWS)


@pytest.mark.parametrize("row", _ROWS)
def test_a_role_reads_what_the_page_says(
    lab: Lab, connection: Connection, connect: Connect, asking: str, row: str
) -> None:
    before, after = _ROWS[row]
    if before:
        connection.execute(before)
    name = "shown" if "view over" in row else "documents"
    lab = lab.write(name=name, source=f"public.{name}", chain=(SMALL,))
    lab.upgrade()
    if after:
        connection.execute(after)
    role = "postgres" if row.startswith("the owner") else asking
    query = str(vector("title 3\n\nbody 3", 64).tolist())
    asked = connect(user=role)
    found = [
        _read(asked, f"SELECT body FROM {name}"),
        _read(asked, f"SELECT id FROM {name}_live"),
        _read(asked, f"SELECT id FROM {name}_search('{query}'::vector, 100)"),
        _read(asked, f"SELECT id FROM vecmig.{name}_vectors"),
        _read(asked, f"SELECT id FROM {lab.stamps(SMALL).relation.as_string(None)}"),
        _read(asked, "SELECT FROM vecmig.change UNION ALL SELECT FROM vecmig.collection, generate_series(1, 20)"),
    ]
    assert found == _table()[row]


def _read(connection: Connection, statement: str) -> str:
    try:
        rows = len(connection.execute(statement).fetchall())
    except pg.InsufficientPrivilege:
        return "refused"
    return {20: "all", 1: "some"}.get(rows, f"{rows} rows")
