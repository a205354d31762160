"""A team alters its table, of a key of two columns, while its application writes: nothing is lost, or bought twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.cli.app import main

#: Each writer has its tenant, and this many records at a time at most.
WRITERS, ROOM = 2, 12


class Application:
    """Writers that insert, edit and delete records of their own, by the names that the table has for the time being."""

    def __init__(self, url: str) -> None:
        self.table, self.tenant, self.ref = "public.documents", "tenant", "ref"
        self._url = url
        self._errors: list[BaseException] = []
        self._written = [0] * WRITERS
        self._ending = threading.Event()
        self._turns = [threading.Lock() for _ in range(WRITERS)]
        self._threads = [threading.Thread(target=self._run, args=[number]) for number in range(WRITERS)]

    def start(self) -> None:
        """Begin to write."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let the writers come to their end; each of their statements has succeeded."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        assert self._errors == []
        assert min(self._written) > 3 * ROOM, "they have written all the time"

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Let no statement be at work meanwhile, as a team does that deploys the new name with its application."""
        for turn in self._turns:
            turn.acquire()
        try:
            yield
        finally:
            for turn in self._turns:
                turn.release()

    def _run(self, number: int) -> None:
        try:
            with psycopg.connect(self._url, autocommit=True, application_name="application") as connection:
                while not self._ending.is_set():
                    with self._turns[number]:
                        self._write(connection, number)
                    self._written[number] += 1
                    self._ending.wait(0.01)
        except BaseException as error:  # noqa: BLE001  # told at the end
            self._errors.append(error)

    def _write(self, connection: psycopg.Connection[Any], number: int) -> None:
        turn = self._written[number]
        ref, values = f"new {turn % ROOM}", {"tenant": number, "text": f"turn {turn} of {number}"}
        keyed = f"{self.tenant} = %(tenant)s AND {self.ref} = %(ref)s"
        match turn // ROOM % 3:
            case 0:
                columns = f"({self.tenant}, {self.ref}, title, body)"
                query = f"INSERT INTO {self.table} {columns} VALUES (%(tenant)s, %(ref)s, 'new', %(text)s)"
            case 1:
                query = f"UPDATE {self.table} SET body = %(text)s WHERE {keyed}"
            case _:
                query = f"DELETE FROM {self.table} WHERE {keyed}"
        done = connection.execute(query, values | {"ref": ref})
        assert done.rowcount == 1, query


@pytest.fixture
def application(bare_lab: Lab) -> Application:
    """The application of a table that has records already."""
    bare_lab.sql(
        "CREATE TABLE documents (tenant int, ref varchar(40), title text, body text, PRIMARY KEY (tenant, ref))"
    )
    bare_lab.sql(
        "INSERT INTO documents SELECT n % 3, 'old ' || n, 'title ' || n, 'body ' || n FROM generate_series(1, 30) n"
    )
    return Application(bare_lab.url)


def look(lab: Lab, model: Model, application: Application, live: str = LARGE) -> None:
    """Bring the tags up to date, and compare what vecmig says with what the tables have."""
    lab.sync()
    assert main(["status"]) == 0
    with application.standing_still():
        covered = lab.sync()
        assert [main([command]) for command in ("check", "audit")] == [0 if live == LARGE else 4, 0]
        ((count,),) = lab.sql(f"SELECT count(*) FROM {application.table}")
        assert {(one.eligible, one.fresh) for one in covered.values()} == {(count, count)}
        (vectors,) = lab.sql("SELECT oid::regclass::text FROM pg_class WHERE relname = 'documents_vectors'")[0]
        key = f"s.{application.tenant}::text, s.{application.ref}::text"
        columns = lab.sql(
            "SELECT string_agg('v.' || quote_ident(attname) || '::text', ', ' ORDER BY attnum) FROM pg_attribute "
            f"WHERE attrelid = '{vectors}'::regclass AND attnum IN (2, 3)"
        )[0][0]
        records = f"SELECT {key}, s.title || E'\\n\\n' || s.body FROM {application.table} s"
        stored = f"SELECT {columns} FROM {vectors} v WHERE v.tag = '{live}'"
        assert sorted(lab.sql(stored)) == sorted(row[:2] for row in lab.sql(records))
        orphans = f"SELECT {columns} FROM {vectors} v EXCEPT SELECT {key} FROM {application.table} s"
        assert lab.sql(orphans) == [], "of no tag"
        with lab.reader() as reader:
            for tenant, ref, text in lab.sql(records + " ORDER BY 2 LIMIT 5"):
                (hit,) = reader.search("documents", text, k=1)
                assert (tuple(map(str, hit.key)), hit.text) == ((tenant, ref), text)
    assert set(model.embedded.values()) == {1}, "no text was bought twice"


def test_a_table_is_altered_while_it_is_written(
    bare_lab: Lab, model: Model, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = bare_lab.write(key=("tenant", "ref"), coverage=0.1, budget=0.9, lock_wait=30.0)
    monkeypatch.chdir(lab.path)
    application.start()
    try:
        lab.upgrade()
        with application.standing_still():
            lab.sql("ALTER TABLE documents RENAME COLUMN ref TO doc_ref")
            lab.sql('ALTER TABLE documents RENAME COLUMN tenant TO "Shop\'s"')
            application.tenant, application.ref = '"Shop\'s"', "doc_ref"
        look(lab, model, application)
        with application.standing_still():
            lab.sql("ALTER TABLE documents RENAME TO posts")
            application.table = "public.posts"
        assert lab.downgrade() == ["r2"]
        look(lab, model, application, SMALL)
        with application.standing_still():
            lab.sql("CREATE SCHEMA app")
            lab.sql("ALTER TABLE posts SET SCHEMA app")
            application.table = "app.posts"
        lab.sql("CREATE SCHEMA extensions")
        lab.sql("ALTER EXTENSION vector SET SCHEMA extensions")
        assert lab.upgrade() == ["live"]
        look(lab, model, application)
        runner.detach_view(lab.config, "documents")
        lab.sql('ALTER TABLE app.posts ALTER COLUMN "Shop\'s" TYPE bigint, ALTER COLUMN doc_ref TYPE text')
        runner.attach_view(lab.config, "documents")
        look(lab, model, application)
        assert lab.downgrade("base") == ["r2", "r1"]
        assert lab.upgrade() == ["live", "live"]
        look(lab, model, application)
    finally:
        application.end()


def test_key_columns_that_swap_their_names(bare_lab: Lab, model: Model) -> None:
    bare_lab.sql("CREATE TABLE documents (a text, b text, title text, body text, PRIMARY KEY (a, b))")
    bare_lab.sql(
        "INSERT INTO documents SELECT 'a' || n % 3, 'b' || n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n"
    )
    lab = bare_lab.write(key=("a", "b"), chain=(SMALL,))
    lab.upgrade()
    model.embedded.clear()
    for one, other in (("a", "swap"), ("b", "a"), ("swap", "b")):
        lab.sql(f"ALTER TABLE documents RENAME COLUMN {one} TO {other}")
    with lab.reader() as reader:
        assert reader.search("documents", "title 3\n\nbody 3", k=1)[0].key == ("a0", "b3")
    lab.sync()
    assert not model.embedded
    lab.sql("UPDATE documents SET body = 'edited' WHERE a = 'b1'")
    lab.sql("INSERT INTO documents VALUES ('a9', 'b9', 'new', 'record')")
    lab.sql("DELETE FROM documents WHERE a = 'b2'")
    assert sorted(lab.sql("SELECT key FROM vecmig.change")) == [(["a1", "b1"],), (["a9", "b9"],)]
    assert lab.sync()["documents", SMALL].fresh == 20
    assert model.total() == 2
    lab = lab.write(key=("b", "a"))
    assert lab.sync()["documents", SMALL].fresh == 20
    assert model.total() == 2
    assert lab.status().problem is None
    assert lab.downgrade("base") == ["r1"]
    assert lab.upgrade() == ["live"]
    assert model.total() == 2
