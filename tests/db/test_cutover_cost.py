"""What a cutover and a rollback do while they hold their locks, for which nobody waits: as little for many records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

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
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The process of each statement that a cursor sends from now on, and which of all transactions it is in."""
    sent: list[tuple[int, int]] = []
    begun: dict[int, int] = {}
    execute, enter = psycopg.Cursor.execute, psycopg.Transaction.__enter__

    def begin_one(transaction: psycopg.Transaction) -> psycopg.Transaction:
        info = transaction.connection.info
        if info.transaction_status == TransactionStatus.IDLE:
            begun[info.backend_pid] = begun.get(info.backend_pid, 0) + 1
        return enter(transaction)

    def note(cursor: psycopg.Cursor[Any], query: Any, *args: Any, **options: Any) -> Any:
        info = cursor.connection.info
        if info.transaction_status == TransactionStatus.INTRANS:
            sent.append((info.backend_pid, begun.get(info.backend_pid, 0)))
        return execute(cursor, query, *args, **options)

    monkeypatch.setattr(psycopg.Transaction, "__enter__", begin_one)
    monkeypatch.setattr(psycopg.Cursor, "execute", note)
    return sent


def _cost(lab: Lab, executed: list[tuple[int, int]], switch: Callable[[], object]) -> Cost:
    """Count the statements of the transaction that moves the route, and give the locks that it holds at its end.

    It is the longest of its session; what comes before and after goes through whichever session is free.
    """
    lab.sql("TRUNCATE held")
    executed.clear()
    switch()
    ((pid,),) = lab.sql("SELECT DISTINCT pid FROM held")
    locks = lab.sql("SELECT DISTINCT relation, mode FROM held WHERE mode <> 'AccessShareLock' ORDER BY 1, 2")
    return max(Counter(number for process, number in executed if process == pid).values()), locks


def test_statements_and_locks_are_the_same_for_twenty_and_for_two_thousand_records(
    tmp_path: Path,
    postgres: Postgres,
    tmp_path_factory: pytest.TempPathFactory,
    model: Model,
    executed: list[tuple[int, int]],
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
        assert ("vecmig.route", "RowExclusiveLock") in locks
        assert [(relation, mode) for relation, mode in locks if not relation.startswith("vecmig.")] == []
        assert {mode for _, mode in locks} <= {"RowShareLock", "RowExclusiveLock"}, "no reader or writer waits for it"
