"""Reading in pages: ranges, long texts, the outbox, and records of which a chunk is missing."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from support.embedding import Model
from support.lab import CHUNKED, SMALL, Lab
from vecmig.freshness.changes import forget_settled
from vecmig.freshness.pending import Page, read_changed, read_page, split_keys
from vecmig.freshness.stamps import Stamps
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key

Own = psycopg.Connection[Any]
Reader = Callable[[Key | None], Page]


def pages(read: Reader) -> Iterator[Page]:
    """Every page of a reader, in order."""
    after: Key | None = None
    while (page := read(after)).last is not None:
        yield page
        after = page.last


def keys(read: Reader) -> list[Key]:
    """The keys of all pending records, in the order in which they are read."""
    return [record.key for page in pages(read) for record in page.pending]


# Ranges --------------------------------------------------------------------------------------------------------------

TABLES = {
    "bigint": ("id bigint PRIMARY KEY", "n"),
    "numbers that sort otherwise as text": ("id int PRIMARY KEY", "n * 7 - 200"),
    "text": ("id text PRIMARY KEY", "chr(60 + n) || n"),
    "text in another collation": ('id text COLLATE "C" PRIMARY KEY', "md5(n::text)"),
    "uuid": ("id uuid PRIMARY KEY", "md5(n::text)::uuid"),
    "date": ("id date PRIMARY KEY", "date '2026-01-30' + n::int"),
    "composite": ("id int, part text, PRIMARY KEY (id, part)", "n / 10, 'p' || n % 10"),
}


def _filled(lab: Lab, connection: Own, name: str, count: int, **changes: Any) -> Lab:
    columns, values = TABLES[name]
    connection.execute(f"CREATE TABLE documents (title text, body text, {columns})")
    connection.execute(f"INSERT INTO documents SELECT 't', 'b' || n, {values} FROM generate_series(1, {count}) n")
    lab = lab.write(key=["id", "part"] if "part" in columns else ["id"], chain=(SMALL,), **changes)
    lab.upgrade(until="expand")
    return lab


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_ranges_together_are_the_source_each_record_once(bare_lab: Lab, connection: Own, name: str, parts: int) -> None:
    lab = _filled(bare_lab, connection, name, 50)
    with lab.opened(SMALL) as (session, stamps):
        whole = keys(lambda after: read_page(session, stamps, after, 7))
        bounds = split_keys(session, stamps.source, parts)
        ends = [None, *bounds, None]
        ranges = [
            keys(lambda at, first=first, upto=upto: read_page(session, stamps, at or first, 7, upto))  # type: ignore[misc]
            for first, upto in itertools.pairwise(ends)
        ]
    assert len(bounds) == parts - 1
    assert [key for range_ in ranges for key in range_] == whole
    assert len(set(whole)) == 50
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_a_source_is_cut_into_no_more_ranges_than_it_has_records(bare_lab: Lab, connection: Own) -> None:
    lab = _filled(bare_lab, connection, "bigint", 2)
    with lab.opened(SMALL) as (session, stamps):
        assert split_keys(session, stamps.source, 5) == [("1",)]
        connection.execute("DELETE FROM documents")
        assert split_keys(session, stamps.source, 5) == []


def test_a_big_table_is_cut_by_a_sample_of_its_blocks(bare_lab: Lab, connection: Own) -> None:
    """Also where the condition leaves nearly nothing of the sample, or all of it lies in partitions."""
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, title text, body text) PARTITION BY RANGE (id)")
    connection.execute("CREATE TABLE low PARTITION OF documents FOR VALUES FROM (0) TO (100000)")
    connection.execute("CREATE TABLE high PARTITION OF documents FOR VALUES FROM (100000) TO (300000)")
    connection.execute("INSERT INTO documents SELECT n, '', '' FROM generate_series(1, 250000) n; ANALYZE documents")
    for where, count in (("true", 250_000), ("id % 100000 = 1", 3)):
        lab = bare_lab.write(chain=(SMALL,), options={"where": where})
        with lab.database.session() as session:
            bounds = [int(key) for (key,) in split_keys(session, lab.inspected(), 3)]
        assert len(bounds) == 2
        if count > 3:
            # a fifth of about 1,100 blocks: a third of the records is found within 7,000 of them (one sigma)
            assert bounds == pytest.approx([count / 3, count * 2 / 3], abs=40_000)
        else:
            assert bounds == [1, 100_001]


# Long texts ----------------------------------------------------------------------------------------------------------


def test_a_page_of_long_texts_is_a_short_one_and_none_is_passed_over(lab: Lab, connection: Own) -> None:
    connection.execute("UPDATE documents SET title = '', body = repeat('é', 500) WHERE id % 2 = 0")
    connection.execute("UPDATE documents SET body = NULL WHERE id IN (3, 4, 5)")
    lab.upgrade(until="expand")
    with lab.opened(SMALL) as (session, stamps):

        def read(after: Key | None) -> Page:
            return read_page(session, stamps, after, 20, max_bytes=2_000)

        found = list(pages(read))
        assert [int(record.key[0]) for page in found for record in page.pending] == [
            n for n in range(1, 21) if n not in (3, 4, 5)
        ]
        assert sum(page.size for page in found) == 20
        for page in found:
            texts = [len(record.text.encode()) for record in page.pending]
            assert sum(texts[:-1]) < 2_000
        one = list(pages(lambda after: read_page(session, stamps, after, 20, max_bytes=1)))
        assert sum(page.size for page in one) == 20
        assert max(len(page.pending) for page in one) == 1


@pytest.mark.upgraded("r1")
def test_the_text_of_fresh_records_is_not_read(lab: Lab) -> None:
    with lab.opened(SMALL) as (session, stamps):
        page = read_page(session, stamps, None, 100)
    assert (page.pending, page.size, page.last) == ((), 20, ("20",))


# The outbox ----------------------------------------------------------------------------------------------------------

CHANGED: dict[str, tuple[str, list[Any]]] = {
    "bigint": ("bigint", [9, 10, 100, -1, 2**63 - 1]),
    "text": ("text", ['a"b', "a'b", "a\\b", "%s", "{0}", "", "[1]", "null", "東京"]),
    "uuid": ("uuid", [uuid.UUID(int=n) for n in (1, 255, 2**127)]),
    "date": ("date", [dt.date(2026, 1, 2), dt.date(26, 12, 31)]),
    "timestamptz": ("timestamptz", [dt.datetime(2026, 3, 29, 1, 59, 59, n, tzinfo=dt.UTC) for n in (0, 1, 999_999)]),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed_records_are_read_from_the_outbox(name: str, bare_lab: Lab, connection: Own, model: Model) -> None:
    kind, values = CHANGED[name]
    connection.execute(f"CREATE TABLE documents (part int, id {kind}, body text, PRIMARY KEY (part, id))")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO documents VALUES (%s, %s, 'text')", [(p, v) for p in (9, 10) for v in values])
    lab = bare_lab.write(key=["part", "id"], text="body", chain=(SMALL,))
    lab.upgrade()
    with lab.opened(SMALL) as (session, stamps):

        def read(after: Key | None) -> Page:
            return read_changed(session, stamps, after, 2)

        assert list(pages(read)) == []
        connection.execute("UPDATE documents SET body = 'new' WHERE part = 10")
        connection.execute("INSERT INTO documents SELECT 11, id, 'third' FROM documents WHERE part = 9")
        found = list(pages(read))
        by_page = keys(lambda after: read_page(session, stamps, after, 3))
        assert sorted(record.key for page in found for record in page.pending) == sorted(by_page)
        assert sum(page.size for page in found) == 2 * len(values)
        assert {record.text for page in found for record in page.pending} == {"new", "third"}


@pytest.mark.upgraded(chain=(SMALL,), coverage=0.5)
def test_only_changes_without_a_fresh_vector_are_pending(lab: Lab, connection: Own, model: Model) -> None:
    model.after = lambda texts, vectors: vectors * [[not text.endswith("poison")] for text in texts]
    connection.execute("UPDATE documents SET body = 'poison' WHERE id = 1")
    lab.sync()
    connection.execute("UPDATE documents SET title = title || 'x' WHERE id IN (2, 3, 4, 5)")
    connection.execute("UPDATE documents SET title = 'title ' || id WHERE id = 2")  # as it was
    connection.execute("UPDATE documents SET body = '', title = ' ' WHERE id = 3")
    connection.execute("DELETE FROM documents WHERE id = 4")
    connection.execute("INSERT INTO vecmig.change (collection, key) VALUES ('documents', '[1]'), ('documents', '[99]')")
    with lab.opened(SMALL) as (session, stamps):
        page = read_changed(session, stamps, None, 100)
    assert [record.key for record in page.pending] == [("5",)]
    assert page.size == 6  # 1, 2, 3, 4, 5 and 99; a deletion leaves what waits


def test_the_cost_of_reading_changes_does_not_grow_with_the_corpus(bare_lab: Lab, connection: Own) -> None:
    lab = _filled(bare_lab, connection, "composite", 20_000)
    connection.execute("TRUNCATE vecmig.change")
    connection.execute("VACUUM ANALYZE documents, vecmig.change")
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 700")
    with lab.opened(SMALL) as (session, stamps):
        page = read_changed(session, stamps, None, 100)
        read = _rows_read(session, lambda: read_changed(session, stamps, None, 100))
    assert len(page.pending) == 10
    assert read < 100


def _rows_read(session: Connection, work: Callable[[], Any]) -> int:
    """Rows of documents that the session fetched, by index or not, in one transaction."""
    query = (
        "SELECT pg_stat_get_xact_tuples_returned('public.documents'::regclass) "
        "+ pg_stat_get_xact_tuples_fetched('public.documents'::regclass)"
    )
    with session.transaction():
        work()
        (count,) = session.execute(query).fetchone() or (0,)
    return int(count)


# Chunks --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def chunked(bare_lab: Lab, make_source: Callable[..., int], connection: Own) -> Lab:
    """Records of one to twenty chunks, live."""
    make_source()
    connection.execute("UPDATE documents SET body = repeat('word' || id || ' ', id::int)")
    lab = bare_lab.write(text="body", chain=(CHUNKED,))
    lab.upgrade()
    return lab


def _pending(session: Connection, stamps: Stamps) -> list[Key]:
    return keys(lambda after: read_page(session, stamps, after, 7))


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM documents_vectors WHERE id = 9 AND chunk = 2",
        "DELETE FROM documents_vectors WHERE id = 9 AND chunk > 0",
        "DELETE FROM documents_vectors WHERE id = 9 AND chunk + 1 = chunks",
        "DELETE FROM documents_vectors WHERE id = 9 AND chunk = 0",
        "UPDATE documents_vectors SET source_hash = md5('')::uuid WHERE id = 9 AND chunk = 1",
    ],
)
def test_a_record_with_a_missing_chunk_is_pending_until_it_is_whole(
    chunked: Lab, connection: Own, model: Model, damage: str
) -> None:
    shown = "SELECT id, chunk, chunks, chunk_text, source_hash FROM documents_vectors ORDER BY 1, 2"
    whole = connection.execute(shown).fetchall()
    assert {chunks for _, _, chunks, _, _ in whole} != {1}
    connection.execute(damage)
    with chunked.opened(CHUNKED) as (session, stamps):
        assert _pending(session, stamps) == [("9",)]
        found = chunked.cover(CHUNKED)
        assert (found.eligible, found.fresh, found.missing, found.unaccounted) == (20, 19, 1, 1)
        connection.execute("INSERT INTO vecmig.change (collection, key) VALUES ('documents', '[9]')")
        paid = model.total()
        chunked.sync()
        assert _pending(session, stamps) == []
    assert connection.execute(shown).fetchall() == whole
    assert connection.execute("SELECT count(*) FROM vecmig.change").fetchone() == (0,)
    # other records have chunks of the same texts
    assert model.total() == paid


def test_a_change_is_not_forgotten_while_a_chunk_is_missing(chunked: Lab, connection: Own) -> None:
    connection.execute("DELETE FROM documents_vectors WHERE id = 9 AND chunk = 2")
    connection.execute("INSERT INTO vecmig.change (collection, key) VALUES ('documents', '[9]'), ('documents', '[8]')")
    with chunked.opened(CHUNKED) as (session, stamps):
        forget_settled(session, stamps.source, stamps.schema)
    assert connection.execute("SELECT key FROM vecmig.change").fetchall() == [([9],)]


@pytest.mark.parametrize("tag", [SMALL, CHUNKED])
def test_vectors_made_before_chunks_were_counted_stay_fresh(
    bare_lab: Lab, make_source: Callable[..., int], connection: Own, model: Model, tag: str
) -> None:
    """The column is added by the next expand; nothing is embedded again for it."""
    make_source()
    lab = bare_lab.write(chain=(tag,), text="title || ' ' || body")
    lab.upgrade()
    connection.execute("ALTER TABLE documents_vectors DROP COLUMN chunks")
    paid = model.total()
    following = tag.replace("@1", "@2")
    lab = bare_lab.write(chain=(tag, following), text="title || ' ' || body")
    lab.upgrade()
    lab.sync()
    assert lab.cover(tag).fresh == lab.cover(following).fresh == 20
    assert model.total() == 2 * paid
    assert connection.execute(
        "SELECT bool_and(chunks = 1), max(chunk) FROM documents_vectors WHERE tag = %s", [tag]
    ).fetchone() == (True, 0 if tag == SMALL else 1)
