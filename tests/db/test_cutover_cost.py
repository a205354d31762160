"""What a cutover and a rollback do while they hold their locks: as little for many records as for few."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.beginning import begin
from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from support.postgres import Postgres

#: When the transaction that moves the route commits, it holds all locks that it has taken.
_NOTE_LOCKS = """
CREATE TABLE held (pid int, relation text, mode text);
CREATE FUNCTION note_locks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.held SELECT pid, relation::regclass, mode FROM pg_locks
    WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation <> 'public.held'::regclass;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER note_locks AFTER UPDATE ON vecmig.route DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
WHEN (OLD.live IS DISTINCT FROM NEW.live) EXECUTE FUNCTION note_locks()"""

Cost = tuple[int, list[Any]]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process of each statement that a cursor sends from now on."""
    sent: list[int] = []
    execute = psycopg.Cursor.execute

    def note(cursor: psycopg.Cursor[Any], query: Any, *args: Any, **options: Any) -> Any:
        sent.append(cursor.connection.info.backend_pid)
        return execute(cursor, query, *args, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", note)
    return sent


def _cost(lab: Lab, executed: list[int], switch: Callable[[], object]) -> Cost:
    """Count the statements of the session that moves the route, and give the locks that it holds at its end."""
    lab.sql("TRUNCATE held")
    executed.clear()
    switch()
    ((pid,),) = lab.sql("SELECT DISTINCT pid FROM held")
    locks = lab.sql("SELECT DISTINCT relation, mode FROM held WHERE mode <> 'AccessShareLock' ORDER BY 1, 2")
    return executed.count(pid), locks


def test_statements_and_locks_are_the_same_for_twenty_and_for_two_thousand_records(
    tmp_path: Path,
    postgres: Postgres,
    tmp_path_factory: pytest.TempPathFactory,
    model: Model,
    executed: list[int],
) -> None:
    costs: dict[int, list[Cost]] = {}
    for records in (20, 2_000):
        beginning = begin(postgres, tmp_path_factory, "r2", until="gate", records=records)
        name = postgres.create_database(template=beginning.database)
        lab = beginning.take(Lab(tmp_path / str(records), postgres.url(name)), model)
        lab.sql(_NOTE_LOCKS)
        costs[records] = [_cost(lab, executed, lab.upgrade)]
        assert lab.live == LARGE
        costs[records].append(_cost(lab, executed, lab.downgrade))
        assert lab.live == SMALL
        postgres.retire_database(name)
    assert costs[20] == costs[2_000]
    for statements, locks in costs[20]:
        assert statements > 0
        assert ("public.documents_live", "AccessExclusiveLock") in locks
