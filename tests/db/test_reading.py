"""Reads of an application while everything moves under it: no answer fails, none is mixed, and each follows."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

from support import embedding
from support.forking import Python
from support.lab import LARGE, SMALL, Lab
from support.pgbouncer import PGBOUNCER, running_pgbouncer
from support.postgres import Postgres, running_replica
from support.project import _environment
from vecmig.errors import DatabaseError, UsageError
from vecmig.ledger.ledger import Ledger
from vecmig.reader import AsyncReader, Hit, Reader, snapshots
from vecmig.reader.snapshots import Snapshots
from vecmig.runner.project import Project
from vecmig.source.source import partition_name

Connection = psycopg.Connection[Any]
#: Seconds after which a test that waits for a thread or process gives up.
PATIENCE = 60
#: Seconds between two searches: without, those who ask take all the processors, and every switch is slow.
BETWEEN = 0.02

#: An application: asks for record after record, and tells of each answer what a mixed one would get wrong.
APPLICATION = """
import json, sys
from support.embedding import vector
from vecmig.reader import Reader

path, count = sys.argv[1], int(sys.argv[2])
served, wrong, number = {}, [], 0
with Reader.from_config(path) as reader:
    print("ready", flush=True)
    while not select_stdin():
        number = number % count + 1
        text = f"title {number}\\n\\nbody {number}"
        hits = reader.search("documents", text, 3)
        tags = {hit.tag for hit in hits}
        if len(hits) != 3 or len(tags) != 1 or hits[0].key != (number,) or abs(hits[0].distance) > 1e-5:
            wrong.append([number, [(hit.key, hit.tag, hit.distance) for hit in hits]])
        for tag in tags:
            served[tag] = served.get(tag, 0) + 1
    wanted = sys.stdin.read().strip()
    last = reader.live_tag("documents")
print(json.dumps({"served": served, "wrong": wrong, "last": last}))
"""
_SELECT = """
import select
def select_stdin():
    return select.select([sys.stdin], [], [], 0.02)[0]
"""


def recipes(lab: Lab) -> Any:
    """Give the recipes that the project believes."""
    return Project(lab.config).collections.recipes


def move(lab: Lab, before: str, after: str) -> None:
    """Move the route alone, as a cutover does in its transaction."""
    with lab.database.session() as connection, connection.transaction():
        Ledger(connection, "vecmig").routes.move("documents", before=before, live=after, standby=before)


def routes(reader: Reader | AsyncReader) -> Snapshots:
    """Give what keeps a reader's routes."""
    return reader._own.snapshots


def eventually(condition: Callable[[], Any]) -> None:
    """Wait for something that another thread or process does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def listening(reader: Reader | AsyncReader) -> None:
    """Wait until a reader that was asked once listens."""
    eventually(lambda: routes(reader).kept_by == "listening")


def question(number: int) -> str:
    """Give the very text of a record."""
    return f"title {number}\n\nbody {number}"


def check(number: int, hits: Sequence[Hit]) -> str:
    """Make sure that an answer is whole and not mixed; give its tag."""
    (tag,) = {hit.tag for hit in hits}
    assert hits[0].key == (number,), hits
    # another model's vector would be nowhere near
    assert hits[0].distance == pytest.approx(0, abs=1e-5)
    return tag


# Cutovers under readers ---------------------------------------------------------------------------------------------


@contextmanager
def applications(lab: Lab, count: int) -> Iterator[list[Python]]:
    """Run applications in processes of their own."""
    path = os.pathsep.join(str(entry) for entry in sys.path if entry)
    head, _, body = APPLICATION.partition("\n\n")
    command = ["-c", f"{head}\n{_SELECT}\n{body}", str(lab.path / "vecmig.ini"), "20"]
    pipe = subprocess.PIPE
    env = _environment() | {"PYTHONPATH": path}
    started = [Python(command, stdin=pipe, stdout=pipe, stderr=pipe, env=env) for _ in range(count)]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


class Asking:
    """Threads and coroutines that ask for records until they are told to stop; what they were told is kept."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._done = threading.Event()
        self.served: list[str] = []
        self.wrong: list[Exception] = []

    @contextmanager
    def begun(self, reader: Reader) -> Iterator[None]:
        """Ask while the block runs."""
        works = [lambda: self._ask(reader, 1), lambda: self._ask(reader, 2), lambda: asyncio.run(self._ask_all())]
        threads = [threading.Thread(target=self._kept, args=[work]) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in threads:
                thread.join()

    def _kept(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # the test looks at it
            self.wrong.append(error)

    def _ask(self, reader: Reader, number: int) -> None:
        while not self._done.wait(BETWEEN):
            self.served.append(check(number, reader.search("documents", question(number), 3)))

    async def _ask_all(self) -> None:
        async with AsyncReader(self._lab.url, recipes=recipes(self._lab)) as reader:
            await asyncio.gather(*(self._await(reader, number) for number in (5, 6, 7)))

    async def _await(self, reader: AsyncReader, number: int) -> None:
        while not self._done.is_set():
            self.served.append(check(number, await reader.search("documents", question(number), 3)))
            await asyncio.sleep(BETWEEN)


@pytest.mark.long
@pytest.mark.upgraded
def test_twenty_switches_under_processes_threads_and_coroutines_fail_and_mix_nothing(lab: Lab) -> None:
    asking = Asking(lab)
    with lab.reader() as reader, applications(lab, 2) as processes:
        with asking.begun(reader):
            for _ in range(10):
                lab.downgrade()
                lab.upgrade()
        assert not asking.wrong
        assert set(asking.served) == {SMALL, LARGE}
        # one announcement is enough for each reader, whatever it was doing: it ends at the tag that is live now
        eventually(lambda: reader.live_tag("documents") == LARGE)
        for process in processes:
            out, err = process.communicate("end\n", timeout=PATIENCE)
            assert process.returncode == 0, err
            told = json.loads(out)
            assert told["wrong"] == []
            assert set(told["served"]) == {SMALL, LARGE}


@pytest.mark.upgraded
def test_one_announcement_takes_a_reader_to_the_new_tag(lab: Lab) -> None:
    with lab.reader() as reader:
        reader.search("documents", question(1), 1)
        listening(reader)
        before, after = LARGE, SMALL
        for _ in range(20):
            version = _version(reader)
            move(lab, before, after)
            eventually(partial(_is_at, reader, version + 1))
            # once it is heard, the very next search is answered by the new tag
            assert check(1, reader.search("documents", question(1), 1)) == after
            before, after = after, before


def _is_at(reader: Reader, version: int) -> bool:
    return _version(reader) == version


def _answers_by(reader: Reader, tag: str) -> bool:
    return check(1, reader.search("documents", question(1), 3)) == tag


def _version(reader: Reader | AsyncReader) -> int:
    found = routes(reader).get("documents")
    return found.route.version if found else -1


@pytest.mark.upgraded
def test_a_switch_while_a_question_is_embedded_does_not_mix(lab: Lab, model: embedding.Model) -> None:
    with lab.reader() as reader:
        reader.search("documents", question(1), 1)
        listening(reader)
        version = _version(reader)

        def switch(texts: list[str], vectors: Any) -> Any:
            move(lab, LARGE, SMALL)
            eventually(lambda: _version(reader) > version)
            model.after = lambda texts, vectors: vectors
            return vectors

        model.after = switch
        assert check(2, reader.search("documents", question(2), 3)) == LARGE
        assert check(2, reader.search("documents", question(2), 3)) == SMALL


@pytest.mark.upgraded
def test_a_vector_that_the_application_changes_is_its_own(lab: Lab) -> None:
    with lab.reader() as reader:
        for _ in range(2):
            vector = reader.embed("documents", question(1)).vector
            assert vector == pytest.approx(embedding.vector(question(1), 256), abs=1e-6)
            vector *= -1
            check(1, reader.search("documents", question(1), 1))


@pytest.mark.upgraded
def test_question_vectors_are_kept_by_tag(lab: Lab, model: embedding.Model) -> None:
    asked: list[tuple[str, int]] = []

    def note(texts: list[str], vectors: Any) -> Any:
        asked.extend((text, vectors.shape[1]) for text in texts)
        return vectors

    model.after = note
    with Reader(lab.url, recipes=recipes(lab), remembered=2) as reader:
        for _ in range(3):
            check(1, reader.search("documents", question(1), 1))
            check(1, reader.search("documents", question(1), 1, tag=SMALL))
        assert asked == [(question(1), 256), (question(1), 64)]
        reader.search("documents", question(2), 1)
        reader.search("documents", question(1), 1)
        assert asked[2:] == [(question(2), 256), (question(1), 256)]


# Where nobody can listen --------------------------------------------------------------------------------------------


@pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (apt-get install pgbouncer)")
@pytest.mark.upgraded
def test_behind_a_pooler_in_transaction_mode_a_reader_polls(lab: Lab, postgres: Postgres) -> None:
    with running_pgbouncer(postgres, pool_mode="transaction", default_pool_size=3) as pooler:
        with lab.reader(pooler.url(lab.url)) as reader:
            assert check(1, reader.search("documents", question(1), 3)) == LARGE
            eventually(lambda: routes(reader).kept_by == "polling")
            for before, after in ((LARGE, SMALL), (SMALL, LARGE)):
                move(lab, before, after)
                eventually(partial(_answers_by, reader, after))

        async def through() -> str:
            async with AsyncReader(pooler.url(lab.url), recipes=recipes(lab)) as reader:
                answers = await asyncio.gather(*(reader.search("documents", question(2), 3) for _ in range(20)))
                return {check(2, hits) for hits in answers}.pop()

        assert asyncio.run(through()) == LARGE
        # nothing is prepared in sessions that others use, and nothing stays set
        with psycopg.connect(pooler.url(lab.url), autocommit=True, prepare_threshold=None) as application:
            assert application.execute("SELECT name FROM pg_prepared_statements").fetchall() == []
            assert application.execute("SELECT current_setting('TimeZone')").fetchone() != ("",)


def test_on_a_hot_standby_a_reader_polls(bare_lab: Lab, own_postgres: Postgres) -> None:
    url = own_postgres.url(own_postgres.create_database())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)")
        connection.execute("INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n")
    lab = bare_lab.write(url=url)
    lab.upgrade()
    with running_replica(own_postgres, "standby") as standby:
        replica = standby.replace("/postgres?", f"/{url.split('?')[0].rpartition('/')[2]}?")
        with lab.reader(replica) as reader:
            assert check(1, reader.search("documents", question(1), 3)) == LARGE
            eventually(lambda: routes(reader).kept_by == "polling")
            move(lab, LARGE, SMALL)
            eventually(lambda: check(1, reader.search("documents", question(1), 3)) == SMALL)


@pytest.mark.upgraded
def test_connections_that_are_ended_are_made_anew_and_no_search_fails(lab: Lab) -> None:
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vecmig reader'"
    with lab.reader() as reader:
        tag = LARGE
        for number in range(1, 6):
            check(number, reader.search("documents", question(number), 3))
            listening(reader)
            assert lab.sql(end)
            # while nobody listens, reads move
            other = SMALL if tag == LARGE else LARGE
            move(lab, tag, other)
            tag = other
            check(number, reader.search("documents", question(number), 3))
            eventually(partial(_answers_by, reader, tag))


@pytest.mark.upgraded
def test_a_connection_that_is_dead_without_a_word_is_noticed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "HEARTBEAT_SECONDS", 0.2)
    with lab.reader() as reader:
        check(1, reader.search("documents", question(1), 3))
        listening(reader)
        listens = "SELECT pid FROM pg_stat_activity WHERE application_name = 'vecmig reader' AND query = 'COMMIT'"
        ((backend,),) = lab.sql(listens)
        os.kill(backend, signal.SIGSTOP)
        try:
            move(lab, LARGE, SMALL)
            eventually(lambda: check(1, reader.search("documents", question(1), 3)) == SMALL)
        finally:
            os.kill(backend, signal.SIGCONT)


def test_a_server_that_restarts_is_found_again(bare_lab: Lab, own_postgres: Postgres) -> None:
    url = own_postgres.url(own_postgres.create_database())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)")
        connection.execute("INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n")
    lab = bare_lab.write(url=url)
    lab.upgrade()
    with lab.reader() as reader:
        check(1, reader.search("documents", question(1), 3))
        listening(reader)
        own_postgres.stop()
        own_postgres.start()
        assert check(1, reader.search("documents", question(1), 3)) == LARGE
        listening(reader)


def announce(lab: Lab, change: str) -> None:
    """Change the ledger by hand, and have all readers look at it."""
    lab.sql(f"BEGIN; {change}; NOTIFY vecmig_route; COMMIT")


@pytest.mark.upgraded
def test_a_route_that_can_no_longer_be_looked_at_is_not_gone_by(lab: Lab) -> None:
    with lab.reader() as reader:
        check(1, reader.search("documents", question(1), 3))
        listening(reader)
        # a newer vecmig raises the version of its schema, and reads move
        announce(lab, "INSERT INTO vecmig.schema_version (version) VALUES (99)")
        eventually(lambda: routes(reader).get("documents") is None)
        with pytest.raises(DatabaseError, match="has version 99; this vecmig knows up to"):
            reader.search("documents", question(1), 3)
        with pytest.raises(DatabaseError, match="has version 99"):
            reader.live_tag("documents")
        lab.sql("DELETE FROM vecmig.schema_version WHERE version = 99")
        move(lab, LARGE, SMALL)
        eventually(partial(_answers_by, reader, SMALL))


@pytest.mark.upgraded
def test_after_a_look_that_failed_the_next_search_looks_for_itself(lab: Lab) -> None:
    with lab.reader(f"{lab.url}&options=-c%20lock_timeout%3D50") as reader:
        check(1, reader.search("documents", question(1), 3))
        listening(reader)
        with psycopg.connect(lab.url) as connection:
            connection.execute("LOCK vecmig.route IN ACCESS EXCLUSIVE MODE")
            connection.execute(
                "UPDATE vecmig.route SET live = standby, standby = live, version = version + 1 WHERE live = %s", [LARGE]
            )
            lab.sql("NOTIFY vecmig_route")
            eventually(lambda: routes(reader).get("documents") is None)
        assert check(1, reader.search("documents", question(1), 3)) == SMALL
        # and the thread vouches for it as before
        assert routes(reader).get("documents") is not None


def _deafen(reader: Reader | AsyncReader) -> None:
    """End the thread that keeps the routes, and have it vouch all the same for what is known."""
    routes(reader).close()
    routes(reader)._current_until = time.monotonic() + 3600


def _retire(lab: Lab, tag: str) -> None:
    lab.sql(
        f"DROP TABLE {partition_name('documents', tag)}; UPDATE vecmig.tag SET state = 'retired' WHERE tag = '{tag}'"
    )


@pytest.mark.upgraded
def test_an_empty_answer_of_a_tag_that_was_live_is_looked_into(lab: Lab) -> None:
    with lab.reader() as reader:
        check(1, reader.search("documents", question(1), 3))
        _deafen(reader)
        move(lab, LARGE, SMALL)
        assert check(1, reader.search("documents", question(1), 3)) == LARGE
        _retire(lab, LARGE)
        assert check(1, reader.search("documents", question(1), 3)) == SMALL


@pytest.mark.upgraded
def test_an_empty_answer_is_looked_into_where_it_is_awaited(lab: Lab) -> None:
    async def ask() -> str:
        async with AsyncReader(lab.url, recipes=recipes(lab)) as reader:
            await reader.search("documents", question(1), 3)
            _deafen(reader)
            move(lab, LARGE, SMALL)
            _retire(lab, LARGE)
            return check(1, await reader.search("documents", question(1), 3))

    assert asyncio.run(ask()) == SMALL


@pytest.mark.upgraded
def test_an_empty_answer_that_is_right_needs_no_new_connection(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with lab.reader() as reader:
        check(1, reader.search("documents", question(1), 3))
        listening(reader)
        monkeypatch.setattr(routes(reader), "load", lambda *_, **__: pytest.fail("it looked everything up"))
        assert reader.search("documents", question(1), 3, where="id < 0") == []
        assert reader.search("documents", question(1), 3, where="id < 0", tag=SMALL) == []


@pytest.mark.upgraded
def test_a_route_whose_version_goes_back_is_followed(lab: Lab) -> None:
    with lab.reader() as reader:
        check(1, reader.search("documents", question(1), 3))
        listening(reader)
        # a failover to a replica that was behind, or a restore to an earlier moment
        back = "UPDATE vecmig.route SET live = standby, standby = live, version = version - 1"
        announce(lab, back)
        eventually(partial(_answers_by, reader, SMALL))


# Processes and threads ----------------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_a_fork_reads_on_connections_of_its_own(lab: Lab) -> None:
    with lab.reader() as reader:
        check(1, reader.search("documents", question(1), 3))
        listening(reader)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for number in range(1, 6):
                    assert check(number, reader.search("documents", question(number), 3)) == LARGE
                listening(reader)
                reader.close()
                gc.collect()
                status = 0
            finally:
                os._exit(status)
        for number in range(1, 6):
            assert check(number, reader.search("documents", question(number), 3)) == LARGE
        assert os.waitpid(child, 0)[1] == 0
        # the parent's connections are none the worse
        move(lab, LARGE, SMALL)
        eventually(lambda: check(1, reader.search("documents", question(1), 3)) == SMALL)
        assert routes(reader).kept_by == "listening"


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("vecmig-")]


def _sessions(lab: Lab) -> int:
    return int(lab.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vecmig reader'")[0][0])


@pytest.mark.upgraded
def test_close_ends_threads_and_connections(lab: Lab) -> None:
    reader = lab.reader()
    reader.search("documents", question(1), 1)
    assert _threads() == ["vecmig-routes"]
    reader.close()
    assert _threads() == []
    eventually(lambda: _sessions(lab) == 0)
    with pytest.raises(UsageError, match="The reader is closed"):
        reader.search("documents", question(1), 1)
    reader.close()


@pytest.mark.upgraded
def test_close_does_not_wait_for_a_look_that_hangs(lab: Lab) -> None:
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'vecmig.route'::regclass"
    reader = lab.reader()
    reader.search("documents", question(1), 1)
    listening(reader)
    with psycopg.connect(lab.url) as connection:
        connection.execute("LOCK vecmig.route IN ACCESS EXCLUSIVE MODE")
        lab.sql("NOTIFY vecmig_route")
        eventually(lambda: lab.sql(waits) == [(1,)])
        closing = threading.Thread(target=reader.close)
        closing.start()
        closing.join(PATIENCE / 2)
        closed = not closing.is_alive()
    closing.join()
    assert closed
    eventually(lambda: _threads() == [])


@pytest.mark.upgraded
def test_a_reader_that_is_forgotten_leaves_no_thread(lab: Lab) -> None:
    reader = lab.reader()
    reader.search("documents", question(1), 1)
    assert _threads() == ["vecmig-routes"]
    del reader
    gc.collect()
    eventually(lambda: _threads() == [])


@pytest.mark.upgraded
def test_an_async_reader_is_closed_in_its_event_loop(lab: Lab) -> None:
    async def ask() -> str:
        async with AsyncReader(lab.url, recipes=recipes(lab)) as reader:
            answers = await asyncio.gather(*(reader.search("documents", question(1), 3) for _ in range(5)))
            assert await reader.live_tag("documents") == LARGE
            return {check(1, hits) for hits in answers}.pop()

    assert asyncio.run(ask()) == LARGE
    assert asyncio.run(ask()) == LARGE
    assert _threads() == []


# Conditions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "params", "keys"),
    [
        ("id = %s", [7], {7}),
        ("id IN (%s, %s) AND title LIKE 'title%%'", (3, 4), {3, 4}),
        ("id = %(one)s OR id = %(two)s OR id = %(one)s", {"one": 3, "two": 9, "spare": 1}, {3, 9}),
        ("id = ANY (%s) -- a comment", [[1, 2]], {1, 2}),
        ("title = %s", ["100 %"], set()),
        ("title = '{braces}' OR id = 5", (), {5}),
        ("id = %s OR body = '%%s'", [6], {6}),
    ],
)
@pytest.mark.upgraded
def test_a_condition_takes_the_placeholders_of_the_driver(lab: Lab, where: str, params: Any, keys: set[int]) -> None:
    with lab.reader() as reader:
        for _ in range(2):
            hits = reader.search("documents", question(1), 20, where=where, params=params)
            assert {hit.key[0] for hit in hits} == keys


@pytest.mark.parametrize(
    ("where", "params", "problem"),
    [
        ("id = %s", (), "where has 1 placeholder, and 0 values came with it"),
        ("id = %s", (1, 2), "where has 1 placeholder, and 2 values came with it"),
        ("id = %(a)s", {"b": 1}, "params lacks a"),
        ("id = %(a)s AND id = %s", {"a": 1}, "with and without names"),
        ("title LIKE 'a%'", (), "a % that is no placeholder"),
        ("id = %d", (1,), "a % that is no placeholder"),
        ("id = %b", (1,), "a % that is no placeholder"),
    ],
)
@pytest.mark.upgraded
def test_a_condition_that_does_not_fit_is_refused(lab: Lab, where: str, params: Any, problem: str) -> None:
    with lab.reader() as reader, pytest.raises(UsageError, match=problem):
        reader.search("documents", question(1), 1, where=where, params=params)


@pytest.mark.upgraded
def test_a_filter_that_few_records_pass_still_finds_k(lab: Lab) -> None:
    lab.sql("INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(21, 1500) n")
    lab.sync()
    with lab.reader() as reader:
        hits = reader.search("documents", question(1), 10, where="id % %s = 0".replace("% %s", "%% %s"), params=[100])
        assert len(hits) == 10
        assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)
        more = reader.search("documents", question(1), 10, where="id %% 100 = 0", ef_search=1)
        assert len(more) == 10


@pytest.mark.upgraded
def test_settings_end_with_the_search(lab: Lab) -> None:
    with lab.reader() as reader:
        reader.search("documents", question(1), 1, ef_search=7)
        with reader._own.pool._pool.connection() as connection:
            names = ("hnsw.ef_search", "hnsw.iterative_scan", "TimeZone")
            now = [connection.execute("SELECT current_setting(%s)", [name]).fetchone()[0] for name in names]
            assert now[:2] == ["40", "off"]
            assert now[2] == lab.sql("SELECT current_setting('TimeZone')")[0][0]
        for wrong in (0, 1001):
            with pytest.raises(UsageError, match="ef_search"):
                reader.search("documents", question(1), 1, ef_search=wrong)
        with pytest.raises(UsageError, match="k is 0"):
            reader.search("documents", question(1), 0)


# Rights -------------------------------------------------------------------------------------------------------------


def test_a_role_that_may_only_select_sees_its_own_rows_only(lab: Lab, postgres: Postgres) -> None:
    role = f"web_{os.getpid()}"
    lab.sql("ALTER TABLE documents ADD COLUMN owner text")
    lab.sql("UPDATE documents SET owner = CASE WHEN id <= 5 THEN %s ELSE 'another' END", role)
    lab.sql(f"CREATE ROLE {role} LOGIN")
    try:
        lab.sql(f"GRANT SELECT ON documents TO {role}")
        lab.sql("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
        lab.sql("CREATE POLICY own ON documents FOR SELECT USING (owner = current_user)")
        lab.upgrade()
        lab.sql(f"GRANT USAGE ON SCHEMA vecmig TO {role}")
        lab.sql(f"GRANT SELECT ON vecmig.schema_version, vecmig.collection, vecmig.tag, vecmig.route TO {role}")
        with lab.reader(lab.url.replace("postgres@", f"{role}@")) as reader:
            listening_or_not = reader.search("documents", question(17), 20)
            assert {hit.key[0] for hit in listening_or_not} == {1, 2, 3, 4, 5}
            seen = reader.search("documents", question(17), 20, where="id = 17 OR id = %s", params=[3])
            assert [hit.key for hit in seen] == [(3,)]
            assert reader.search("documents", question(17), 20, where="true) OR (true") != []
            assert {hit.key[0] for hit in reader.search("documents", question(17), 20, where="true) OR (true")} <= {
                *range(1, 6)
            }
            assert reader.search("documents", question(17), 20, tag=SMALL)[0].key[0] <= 5
    finally:
        lab.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


# What is asked wrongly, and what has gone --------------------------------------------------------------------------


def test_wrong_questions_have_clear_errors(lab: Lab) -> None:
    with lab.reader() as reader:
        with pytest.raises(DatabaseError, match="This database has no collection documents"):
            reader.search("documents", "x")
        lab.upgrade("r1", until="index")
        with pytest.raises(DatabaseError, match="No tag of documents is live"):
            reader.live_tag("documents")
        with pytest.raises(DatabaseError, match="No tag of documents is live"):
            reader.search("documents", "x")
        lab.upgrade()
        # it may have heard of the first of the two cutovers alone
        eventually(lambda: check(1, reader.search("documents", question(1), 1)) == LARGE)
        with pytest.raises(DatabaseError, match="Collection documents has no tag toy@2"):
            reader.search("documents", "x", tag="toy@2/dim-64/chunk-none/norm-l2")
        with pytest.raises(UsageError, match=r"shape \(64,\); .* needs \(256,\)"):
            reader.search_vector("documents", np.ones(64, dtype=np.float32), tag=LARGE)
        with pytest.raises(UsageError, match="length 0"):
            reader.search_vector("documents", np.zeros(256), tag=LARGE)
        with pytest.raises(UsageError, match="NaN"):
            reader.search_vector("documents", np.full(256, np.nan), tag=LARGE)
        with pytest.raises(TypeError):
            reader.search_vector("documents", np.ones(256))  # type: ignore[call-arg]
        lab.sql("UPDATE vecmig.tag SET state = 'retired' WHERE tag = %s", SMALL)
        with pytest.raises(DatabaseError, match=f"The vectors of {SMALL} were retired"):
            eventually(lambda: not reader.search("documents", question(1), 1, tag=SMALL))


@pytest.mark.upgraded
def test_vectors_that_are_dropped_under_a_reader_are_no_empty_answer(lab: Lab) -> None:
    with lab.reader() as reader:
        assert reader.search("documents", question(1), 1, tag=SMALL)
        _retire(lab, SMALL)
        with pytest.raises(DatabaseError, match="were retired"):
            reader.search("documents", question(1), 1, tag=SMALL)
        assert check(1, reader.search("documents", question(1), 1)) == LARGE


@pytest.mark.upgraded("r1")
def test_a_tag_that_is_new_is_found(lab: Lab) -> None:
    with lab.reader() as reader:
        check(1, reader.search("documents", question(1), 1))
        lab.upgrade(until="index")
        assert check(1, reader.search("documents", question(1), 1, tag=LARGE)) == LARGE


@pytest.mark.upgraded
def test_a_reader_follows_a_source_that_is_changed(lab: Lab) -> None:
    with lab.reader() as reader:
        check(1, reader.search("documents", question(1), 3))
        listening(reader)
        lab.sql("ALTER TABLE documents ADD COLUMN topic text DEFAULT 'x'")
        assert reader.search("documents", question(1), 1)[0].record["topic"] == "x"
        assert check(1, reader.search("documents", question(1), 1, where="topic = %s", params=["x"])) == LARGE
        lab.sql("ALTER TABLE documents RENAME COLUMN topic TO subject")
        assert check(1, reader.search("documents", question(1), 1, where="subject = %s", params=["x"])) == LARGE
        with pytest.raises(DatabaseError, match='column "topic" does not exist') as refused:
            reader.search("documents", question(1), 1, where="topic = 'x'")
        assert refused.value.hint.endswith("whose columns are: id, title, body, subject")
        lab.sql("ALTER TABLE documents DROP COLUMN subject")
        assert "subject" not in reader.search("documents", question(1), 1)[0].record
        # a column that the text reads: nothing can be read until the collection follows
        lab.sql("ALTER TABLE documents RENAME COLUMN body TO content")
        with pytest.raises(UsageError, match="the text expression"):
            reader.search("documents", question(1), 1)
        lab.sql("ALTER VIEW documents_live RENAME COLUMN body TO content")
        changed = lab.write(text="title || E'\\n\\n' || content")
        changed.sync()
        assert check(1, reader.search("documents", question(1), 1)) == LARGE


@pytest.mark.upgraded
def test_a_reader_hears_that_a_condition_of_the_collection_changed(lab: Lab) -> None:
    with lab.reader() as reader:
        assert len(reader.search("documents", question(1), 20)) == 20
        listening(reader)
        version = _version(reader)
        lab.write(options={"where": "id <= 5"}).sync()
        eventually(lambda: _version(reader) > version)
        assert {hit.key[0] for hit in reader.search("documents", question(1), 20)} == {1, 2, 3, 4, 5}


@pytest.mark.upgraded
def test_statements_are_prepared_where_the_session_is_the_readers_own(lab: Lab) -> None:
    with lab.reader() as reader:
        for _ in range(8):
            reader.search("documents", question(1), 1)
        reader.search("documents", question(1), 1, where="id = %s", params=[1])
        with reader._own.pool._pool.connection() as connection:
            kept = connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()
        # one for the settings and one for the search; what a condition leaves over depends on its values
        assert len(kept) == 2


def test_names_with_a_percent_sign_and_keys_of_several_columns_are_read(bare_lab: Lab, connection: Connection) -> None:
    connection.execute(sql.SQL('CREATE TABLE "we %s" ("a %" int, b text, title text, PRIMARY KEY ("a %", b))').format())
    connection.execute("INSERT INTO \"we %s\" SELECT n, 'b' || n, 'title ' || n FROM generate_series(1, 9) n")
    lab = bare_lab.write(name="odd one", source='"we %s"', key=("a %", "b"), text="title")
    lab.upgrade()
    with lab.reader() as reader:
        (hit,) = reader.search("odd one", "title 4", 1, where='"a %%" = %s', params=[4])
        assert hit.key == (4, "b4")
        assert hit.record["a %"] == 4


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_each_storage_and_metric_is_asked_in_its_own_type(lab: Lab, storage: str, metric: str) -> None:
    half = lab.write(options={"storage": storage, "metric": metric})
    half.upgrade("r1")
    with half.reader() as reader:
        (hit,) = reader.search("documents", question(4), 1)
        assert hit.key == (4,)
        assert hit.distance == pytest.approx({"ip": -1}.get(metric, 0), abs=2e-3)
        assert reader.search_vector("documents", embedding.vector(question(5), 64).tolist(), tag=SMALL)[0].key == (5,)
