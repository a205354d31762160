"""Writing: guarded by the text's hash, whole records, harmless twice and side by side."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
import pytest

from support.embedding import vector
from support.lab import CHUNKED, SMALL, Lab
from support.postgres import Connect
from vecmig.freshness.pending import PendingRecord, read_page
from vecmig.homes import EmbeddedRecord, prepare_to_write, reject_records
from vecmig.homes.partition.writing import write_records

Own = psycopg.Connection[Any]


def embedded(pending: Sequence[PendingRecord], chunks: int | None = None, name: str = "") -> list[EmbeddedRecord]:
    """Vectors for records, ``chunks`` each; None for a tag without chunks."""
    made = []
    for record in pending:
        texts = None if chunks is None else tuple(f"{name}{record.text} {chunk}" for chunk in range(chunks))
        vectors = np.stack([vector(text, 64 if texts is None else 4) for text in texts or [name + record.text]])
        made.append(EmbeddedRecord(record.key, record.source_hash, vectors, texts, record.new))
    return made


def _stored(connection: Own) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT id, chunk, ctid, xmin FROM documents_vectors ORDER BY 1, 2").fetchall()


@pytest.mark.upgraded("r1", until="expand", chain=(SMALL,))
def test_writing_what_is_there_changes_nothing(lab: Lab, connection: Own) -> None:
    with lab.opened(SMALL) as (session, stamps):
        records = embedded(read_page(session, stamps, None, 100).pending)
        assert all(record.new for record in records)
        assert write_records(session, stamps, records[:15]) == 15
        before = _stored(connection)
        assert write_records(session, stamps, records[:15]) == 15
        assert _stored(connection) == before
        assert write_records(session, stamps, records) == 20
        assert _stored(connection)[:15] == before
        assert write_records(session, stamps, []) == 0
        reject_records(session, stamps, [])


@pytest.mark.upgraded("r1", until="expand", chain=(SMALL,))
def test_records_that_changed_or_went_are_left_out(lab: Lab, connection: Own) -> None:
    with lab.opened(SMALL) as (session, stamps):
        records = embedded(read_page(session, stamps, None, 100).pending)
        connection.execute("UPDATE documents SET body = 'new' WHERE id <= 3")
        connection.execute("DELETE FROM documents WHERE id = 20")
        assert write_records(session, stamps, records) == 16
        assert {row[0] for row in _stored(connection)} == set(range(4, 20))
        assert write_records(session, stamps, records[:3]) == 0


@pytest.mark.upgraded("r1", until="expand", chain=(CHUNKED,))
def test_fewer_chunks_replace_more_and_more_replace_fewer(lab: Lab, connection: Own) -> None:
    with lab.opened(CHUNKED) as (session, stamps):
        for body, chunks in (("one", 5), ("two", 2), ("three", 1), ("four", 4)):
            connection.execute("UPDATE documents SET body = %s", [body])
            pending = read_page(session, stamps, None, 100).pending
            assert len(pending) == 20
            assert {record.new for record in pending} == {body == "one"}
            assert write_records(session, stamps, embedded(pending, chunks)) == 20
            assert connection.execute(
                "SELECT count(*), max(chunk) + 1, min(chunks), max(chunks), count(DISTINCT chunk_text) "
                "FROM documents_vectors"
            ).fetchone() == (20 * chunks, chunks, chunks, chunks, 20 * chunks)
            assert read_page(session, stamps, None, 100).pending == ()


@pytest.mark.parametrize("tag", [SMALL, CHUNKED])
def test_two_writers_of_the_same_records_leave_each_once_and_whole(lab: Lab, connection: Own, tag: str) -> None:
    """A second runner gets past the lock in a network partition, say: idempotent statements make it harmless."""
    lab = lab.write(chain=(tag,))
    lab.upgrade(until="expand")
    stamps = lab.stamps(tag)
    with lab.database.session() as session:
        pending = read_page(session, stamps, None, 100).pending
    start = threading.Barrier(4)
    written: list[int] = []

    def write(name: str, chunks: int) -> None:
        records = embedded(pending, None if tag == SMALL else chunks, name)
        # each in another order, which is how a deadlock would come about
        records = records if chunks % 2 else records[::-1]
        with lab.database.session() as session:
            prepare_to_write(session)
            start.wait(60)
            written.append(write_records(session, stamps, records))

    threads = [threading.Thread(target=write, args=(name, chunks)) for chunks, name in enumerate("abcd", start=1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert written == [20] * 4
    assert lab.cover(tag).fresh == 20
    whole = "SELECT count(*), min(n) FROM (SELECT count(*) = max(chunks) AS n FROM documents_vectors GROUP BY id) AS r"
    assert connection.execute(whole.replace("min(n)", "bool_and(n)")).fetchone() == (20, True)


@pytest.mark.upgraded("r1", until="expand", chain=(SMALL,))
def test_a_writer_that_hangs_lets_go_of_the_rows(lab: Lab, connect: Connect) -> None:
    """A process stopped in the middle of a write would keep the application from deleting its rows for ever."""
    with lab.opened(SMALL) as (session, _):
        prepare_to_write(session)
        assert session.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("1min",)
