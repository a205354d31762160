"""What change tracking costs the application: statements on many rows of a source and on one, with triggers or not.

    python benchmarks/tracking.py [--rows 16000] [--rounds 5] [--dims 64] [--json]

Each round writes to a plain table and to the source of a live collection in turn: it inserts all rows, changes the text
of all, changes another column of all, and deletes all, whose vectors are there. One statement each. Then it changes the
text, or another column, of one row after the other, a transaction each. The transaction ids that it takes are counted.
"""

from __future__ import annotations

import time
from typing import Any, Final

import psycopg

from common import Report, directory, forget, free_recipe, opened, parser, tag_of, write_project

_STATEMENTS: Final = {
    "insert": "INSERT INTO {table} SELECT i, repeat(md5(i::text), 20), i FROM generate_series(1, {rows}) i",
    "change the text": "UPDATE {table} SET body = body || ' more'",
    "change another column": "UPDATE {table} SET other = other + 1",
    "delete": "DELETE FROM {table}",
}
_ONE: Final = {
    "change one text": "UPDATE {table} SET body = body || i WHERE id = i",
    "change another column of one": "UPDATE {table} SET other = other + 1 WHERE id = i",
}
#: No round trips, and (with synchronous_commit off) no waiting for the disk: the server's own work.
_ONE_EACH: Final = "DO $$ BEGIN FOR i IN 1..{rows} LOOP {statement}; COMMIT; END LOOP; END $$"
#: A vector for each record, so that a deletion has something to delete.
_FILL: Final = """
    INSERT INTO {vectors} (tag, id, embedding, source_hash)
    SELECT t.tag, d.id, array_fill(1 / sqrt(t.dims), ARRAY[t.dims])::vector, gen_random_uuid()
    FROM documents d, vecmig.tag t"""


def _round(connection: psycopg.Connection[Any], table: str, rows: int, vectors: str | None) -> list[float]:
    """Run the statements; give what each took, in microseconds a row."""
    taken = []
    for what, text in _STATEMENTS.items():
        if vectors is not None and what == "delete":
            connection.execute("SET session_replication_role = replica")
            connection.execute(_FILL.format(vectors=vectors))
            connection.execute("RESET session_replication_role")
        began = time.perf_counter()
        connection.execute(text.format(table=table, rows=rows))
        taken.append((time.perf_counter() - began) / rows * 1e6)
    connection.execute("TRUNCATE vecmig.change")
    connection.execute(_STATEMENTS["insert"].format(table=table, rows=rows))
    few = rows // 10
    for text in _ONE.values():
        began = time.perf_counter()
        connection.execute(_ONE_EACH.format(rows=few, statement=text.format(table=table)))
        taken.append((time.perf_counter() - began) / few * 1e6)
    connection.execute(f"TRUNCATE {table}, vecmig.change")
    return taken


def _transaction_ids(connection: psycopg.Connection[Any], table: str, rows: int) -> int:
    """Count the ids that a statement on all rows takes."""
    now = "SELECT pg_current_xact_id()::text::bigint"
    before, after = 0, 0
    for text in (now, _STATEMENTS["insert"].format(table=table, rows=rows), now):
        cursor = connection.execute(text)
        row = cursor.fetchone() if text == now else None
        before, after = (after, row[0]) if row else (before, after)
    return after - before - 1


def measure(report: Report, rows: int, rounds: int, dims: int) -> None:
    """Write to both tables in turn, and enter the figures."""
    forget(report.database)
    with psycopg.connect(report.database.url, autocommit=True) as connection, directory() as path:
        connection.execute("SET synchronous_commit = off")
        for table in ("documents", "plain"):
            connection.execute(f"DROP TABLE IF EXISTS {table} CASCADE")
            connection.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, body text, other int)")
        connection.execute("INSERT INTO documents VALUES (0, 'the first', 0)")
        write_project(path, report.database.url, {tag_of("free", dims): free_recipe(dims)}).upgrade()
        connection.execute("TRUNCATE documents")
        row = connection.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relname = 'documents_vectors' AND relkind = 'p'"
        ).fetchone()
        vectors = str(row[0]) if row else ""
        found: dict[str, list[list[float]]] = {"plain": [], "documents": []}
        for _ in range(rounds):
            found["plain"].append(_round(connection, "plain", rows, None))
            found["documents"].append(_round(connection, "documents", rows, vectors))
        ids = _transaction_ids(connection, "documents", rows)
        report.figure("transaction ids of an insert of all rows", [ids], "ids")
    for at, what in enumerate((*_STATEMENTS, *_ONE)):
        plain = report.figure(f"{what}, plain", [one[at] for one in found["plain"]], "us/row")
        tracked = report.figure(f"{what}, tracked", [one[at] for one in found["documents"]], "us/row")
        most = 1.5 if what == "change another column" else None
        report.ratio(f"{what}, of a plain table", tracked / plain, at_most=most)


def main() -> None:
    """Run it."""
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=16_000, help="rows of a statement")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--dims", type=int, default=64)
    options = made.parse_args()
    with opened(options.database_url) as database:
        report = Report("tracking", options, database)
        measure(report, options.rows, options.rounds, options.dims)
        report.end()


if __name__ == "__main__":
    main()
