"""Keeping tags complete: what a sync does beside other runs, and that no change is ever forgotten too early."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from support.cluster import dump, own_cluster, restore
from support.embedding import Model
from support.lab import CHUNKED, LARGE, SMALL, Lab, create_documents, recipe
from support.postgres import Postgres, configured
from support.stamps import text_hash
from vecmig import runner
from vecmig.errors import BudgetSpent, ConfigError, DatabaseError, PoisonInputError, TerminalEmbedderError
from vecmig.events import Event, Noted, StepDone, Waiting, Warned
from vecmig.freshness import changes
from vecmig.ledger.ledger import Ledger
from vecmig.postgres.locks import runner_locks

Connection = psycopg.Connection[Any]


def _noted(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Noted)]


# Once ----------------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r2", until="backfill")
def test_beside_a_runner_the_candidate_is_left_to_it(lab: Lab, model: Model) -> None:
    lab.sql("UPDATE documents SET body = 'new' WHERE id = 3")
    model.embedded.clear()
    with runner_locks(lab.database, ["documents"], what="upgrade"):
        assert set(lab.sync()) == {("documents", SMALL)}
    assert (model.total(64), model.total(256)) == (1, 0)
    (said,) = _noted(lab.events)
    assert said.startswith(f"documents: {LARGE} is left to vecmig upgrade ")
    assert lab.waiting == ["3"], "the candidate still lacks the change"
    assert set(lab.sync()) == {("documents", SMALL), ("documents", LARGE)}
    assert lab.waiting == []


def test_a_runner_that_begins_takes_the_candidate_over(lab: Lab, model: Model) -> None:
    """What is in flight is written, the rest is the runner's."""
    lab.write(recipes={LARGE: _slow_recipe()})
    lab.upgrade("r1")
    lab.upgrade(until="expand")
    began, go_on = threading.Event(), threading.Event()

    def hold(texts: list[str]) -> None:
        began.set()
        go_on.wait(30)

    model.before = hold

    def run_beside() -> None:
        began.wait(30)
        with runner_locks(lab.database, ["documents"], what="upgrade"):
            lab_left.wait(30)

    lab_left = threading.Event()
    beside = threading.Thread(target=run_beside)
    beside.start()
    threading.Timer(2.5, go_on.set).start()
    try:
        assert set(lab.sync()) == {("documents", SMALL)}
    finally:
        lab_left.set()
        beside.join()
    assert 0 < model.total(256) < 20
    assert lab.cover(LARGE).fresh == model.total(256)
    assert any(f"{LARGE} is left to vecmig upgrade " in text for text in _noted(lab.events))


def _slow_recipe() -> dict[str, Any]:
    return {
        "provider": "python",
        "dims": 256,
        "callable": "support.embedding:embed256",
        "max_batch": 1,
        "concurrency": 1,
    }


@pytest.mark.upgraded("r2", until="backfill")
def test_a_tag_that_is_discarded_meanwhile_is_passed_over(lab: Lab, model: Model) -> None:
    lab.sql("UPDATE documents SET body = 'new' WHERE id = 3")

    def discard(texts: list[str]) -> None:
        if model.total(64):  # the live tag is done
            model.before = lambda texts: None
            lab.sql("UPDATE vecmig.route SET candidate = NULL")
            lab.sql(f"DROP TABLE {lab.stamps(LARGE).relation.as_string(None)}")

    model.embedded.clear()
    model.before = discard
    assert set(lab.sync()) == {("documents", SMALL)}
    gone = f"{LARGE} is not live, standby or candidate of documents any more, and was passed over"
    assert _noted(lab.events) == [gone]
    assert lab.cover(SMALL).share == 1


@pytest.mark.upgraded
def test_a_partition_that_somebody_dropped_is_an_error(lab: Lab) -> None:
    lab.sql(f"DROP TABLE {lab.stamps(SMALL).relation.as_string(None)}")
    with pytest.raises(DatabaseError, match=f"The partition of {SMALL} is not there"):
        lab.sync()


@pytest.mark.upgraded
def test_the_live_view_never_goes_back_to_a_tag_that_was_live_a_moment_ago(lab: Lab, connection: Connection) -> None:
    """A sync that found the view gone makes it anew beside a cutover: it takes the route as the cutover left it."""
    connection.execute("DROP VIEW documents_live")
    with psycopg.connect(lab.url) as moving:
        moving.execute("UPDATE vecmig.route SET live = standby, standby = live")
        done = threading.Thread(target=lab.sync)
        done.start()
        _until(lambda: _waits_for_a_lock(connection))
    done.join()
    assert lab.live == SMALL
    assert connection.execute("SELECT DISTINCT tag FROM documents_live").fetchall() == [(SMALL,)]


def _waits_for_a_lock(connection: Connection) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    return bool(found and found[0])


def _until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(6_000):
        if holds():
            return
        pause.wait(0.01)
    pytest.fail("it never came true")


# The history ---------------------------------------------------------------------------------------------------------


def _events(lab: Lab) -> list[tuple[str, str | None, dict[str, Any]]]:
    """Return the history, oldest first."""
    return [(kind, tag, data) for kind, tag, data in lab.sql("SELECT kind, tag, data FROM vecmig.event ORDER BY id")]


@pytest.mark.upgraded
def test_a_sync_that_did_nothing_leaves_no_event(lab: Lab) -> None:
    before = _events(lab)
    lab.sync()
    assert _events(lab) == before
    lab.sql("UPDATE documents SET body = 'new' WHERE id < 4")
    lab.sync()
    lab.sync()
    written = {"written": 3, "rejected": 0, "coverage": 1.0}
    assert _events(lab)[len(before) :] == [("sync", LARGE, written), ("sync", SMALL, written)]


@pytest.mark.upgraded
def test_what_a_sync_rejects_or_makes_good_is_an_event(lab: Lab, model: Model) -> None:
    def refuse(texts: list[str]) -> None:
        if any("POISON" in text for text in texts):
            raise PoisonInputError("no")

    before = len(_events(lab))
    lab.sql("DROP VIEW documents_live")
    ((index,),) = lab.sql(
        "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid "
        "WHERE pg_get_indexdef(indexrelid) LIKE '%hnsw%' AND pg_get_indexdef(indexrelid) LIKE '%vector(64)%'"
    )
    lab.sql(f"DROP INDEX {index}")
    lab.sync()
    followed, built = _events(lab)[before:]
    assert followed == ("follow", None, {"made_good": ["the live view is gone"]})
    assert built[:2] == ("index", SMALL)
    assert {"bytes", "vectors", "seconds"} <= built[2].keys()
    model.before = refuse
    lab.sql("UPDATE documents SET body = 'POISON' WHERE id = 1")
    lab.sync()
    lab.sync()
    rejected = [(kind, data["written"], data["rejected"]) for kind, _, data in _events(lab)[before + 2 :]]
    assert rejected == [("sync", 0, 1)] * 2, "once for each tag, and not by the second sync"


@pytest.mark.upgraded("r1")
def test_rights_that_a_sync_mends_are_an_event(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE documents_vectors ENABLE ROW LEVEL SECURITY")
    before = len(_events(lab))
    lab.sync()
    lab.sync()
    made_good = ["the vectors have row-level security, and public.documents has none"]
    assert _events(lab)[before:] == [("follow", None, {"made_good": made_good})]


@pytest.mark.upgraded
def test_a_watch_that_finds_nothing_leaves_no_event(lab: Lab) -> None:
    before = _events(lab)

    def story() -> Iterator[Callable[[], bool]]:
        yield lambda: _idle(lab, tags=2)

    _watch(lab, story())
    assert _events(lab) == before


@pytest.mark.upgraded
def test_what_reads_the_history_does_without_empty_syncs(lab: Lab) -> None:
    """The rate of a backfill and the clock of trust are read from other events than those of syncs."""
    with lab.database.session() as session:
        rate = Ledger(session, "vecmig").last_rate(lab.name, LARGE)
    trust = lab.status().trust
    lab.sync()
    lab.sql("UPDATE documents SET body = 'new' WHERE id = 1")
    lab.sync()
    with lab.database.session() as session:
        assert Ledger(session, "vecmig").last_rate(lab.name, LARGE) == rate
    assert rate
    after = lab.status().trust
    assert trust is not None
    assert after is not None
    assert (after.since, after.due) == (trust.since, trust.due)


# The outbox ----------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1")
def test_no_change_is_forgotten_that_one_tag_lacks(lab: Lab, connection: Connection, model: Model) -> None:
    """A sync that knew only the live tag when it began must not forget for a candidate that came meanwhile."""
    connection.execute("UPDATE documents SET body = 'new' WHERE id < 4")
    began, go_on = threading.Event(), threading.Event()

    def hold(texts: list[str]) -> None:
        if not began.is_set():
            began.set()
            go_on.wait(30)

    model.before = hold
    done = threading.Thread(target=lab.sync)
    done.start()
    assert began.wait(30)
    lab.upgrade(until="backfill")
    connection.execute("UPDATE documents SET body = 'newer' WHERE id = 2")
    go_on.set()
    done.join()
    assert lab.cover(LARGE).stale == 1
    assert "2" in lab.waiting
    assert lab.checks()["unexplained"]
    lab.sync()
    assert lab.waiting == []
    assert lab.cover(SMALL).share == lab.cover(LARGE).share == 1


@pytest.mark.upgraded("r2", until="backfill")
def test_the_tags_are_read_once_the_rows_are_held(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that comes between is counted in."""
    lab.sql("UPDATE vecmig.route SET candidate = NULL")
    lab.sql("UPDATE documents SET body = 'new' WHERE id = 3")
    with lab.opened(SMALL) as (session, stamps):
        executed = session.execute

        def execute(query: Any, *args: Any, **options: Any) -> Any:
            result = executed(query, *args, **options)
            if "SKIP LOCKED" in query.as_string(session) and "LIMIT" in query.as_string(session):
                lab.sql("UPDATE vecmig.route SET candidate = %s", LARGE)
            return result

        lab.sql("DELETE FROM vecmig.change")
        lab.sync()
        lab.sql("UPDATE documents SET body = 'newest' WHERE id = 3")
        lab.sync()
        lab.sql("UPDATE vecmig.route SET candidate = NULL")
        lab.sql("INSERT INTO vecmig.change (collection, key) VALUES ('documents', '[3]')")
        lab.sql("DELETE FROM documents_vectors WHERE tag = %s AND id = 3", LARGE)
        monkeypatch.setattr(session, "execute", execute)
        changes.forget_settled(session, stamps.source, stamps.schema)
    assert lab.waiting == ["3"]


@pytest.mark.upgraded
def test_an_emptied_record_is_not_found_once_its_change_is_forgotten(lab: Lab, connection: Connection) -> None:
    connection.execute("UPDATE documents SET title = NULL WHERE id = 7")
    with lab.opened(LARGE) as (session, stamps):
        assert changes.lag(session, [stamps]).records == 1
        changes.forget_settled(session, stamps.source, stamps.schema)
        assert changes.lag(session, [stamps]) == changes.Lag()
    assert connection.execute("SELECT count(*) FROM documents_vectors WHERE id = 7").fetchone() == (0,)
    assert lab.waiting == []


@pytest.mark.upgraded
def test_clearing_the_outbox_never_deadlocks_with_a_truncate(lab: Lab, connection: Connection) -> None:
    """Both lock the tables before the outbox's rows; whoever comes second waits, or leaves it for later."""
    connection.execute("UPDATE documents SET body = 'new'")
    with lab.opened(LARGE) as (session, stamps), psycopg.connect(lab.url) as truncating:
        truncating.execute("TRUNCATE documents")
        changes.forget_settled(session, stamps.source, stamps.schema)
    assert lab.waiting == []


@pytest.mark.upgraded("r2", until="backfill")
def test_lag_counts_what_a_tag_lacks_and_not_what_only_waits_to_be_forgotten(lab: Lab, connection: Connection) -> None:
    connection.execute("UPDATE documents SET body = 'new' WHERE id < 4")
    connection.execute("UPDATE vecmig.change SET changed_at = now() - interval '90 s' WHERE key = '[2]'")
    with runner_locks(lab.database, ["documents"], what="upgrade"):
        lab.sync()
    found = lab.status()
    assert found.outbox.records == 3
    assert found.lag == changes.Lag(), "reads lack nothing"
    by_tag = {tag.tag: tag.lag for tag in found.tags}
    assert by_tag[SMALL].records == 0
    assert by_tag[LARGE].records == 3
    assert 90 <= by_tag[LARGE].seconds < 600
    assert found.gate is not None
    (freshness,) = [check for check in found.gate[1].checks if check.name == "freshness"]
    said = "3 records are stale and 0 missing; the oldest change that is not embedded is 1 min 3"
    assert freshness.detail.startswith(said)


@pytest.mark.upgraded(
    "r2", until="expand", recipes={LARGE: _slow_recipe() | {"price_per_million_tokens": 1.0, "budget_usd": 0.0001}}
)
def test_the_backfill_of_a_candidate_is_within_its_budget_whoever_does_it(lab: Lab) -> None:
    with pytest.raises(Exception, match="of the budget of"):
        lab.sync()
    assert 0 < lab.cover(LARGE).fresh < 20
    assert [(row[0], row[1]) for row in lab.sql("SELECT revision, what FROM vecmig.spend")] == [("r2", "backfill")]


def test_max_cost_is_the_sum_over_all_tags(bare_lab: Lab, make_source: Any, model: Model) -> None:
    """What both tags cost together stops the run; the next one has as much again."""
    make_source()
    priced = {tag: recipe(tag, price_per_million_tokens=1.0, max_batch=1, concurrency=1) for tag in (SMALL, LARGE)}
    lab = bare_lab.write(recipes=priced)
    lab.upgrade()
    lab.sql("UPDATE documents SET body = repeat('x', 300) || id")
    model.embedded.clear()
    most = 0.003
    with pytest.raises(BudgetSpent, match=r"^\$0\.00\d+ of the \$0\.003 that this run may cost is spent, "):
        runner.sync(lab.config, max_cost=most)
    assert model.total(256) == 20
    assert 0 < model.total(64) < 20
    runner.sync(lab.config, max_cost=most)
    assert lab.cover(SMALL).share == lab.cover(LARGE).share == 1
    assert model.total() == 40


# Watching ------------------------------------------------------------------------------------------------------------


def _watch(lab: Lab, story: Iterator[Callable[[], bool]], **how: Any) -> dict[tuple[str, str], int]:
    """Watch until the story is told: each step gives what must hold before the next one."""
    ended = threading.Event()
    failures: list[BaseException] = []

    def tell() -> None:
        try:
            for holds in story:
                _until(lambda holds=holds: ended.is_set() or holds())  # type: ignore[misc]
                if ended.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  # raised again below
            failures.append(error)
        finally:
            _interrupt(ended)

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        return runner.watch_sync(lab.config, every=0.1, listener=lab.listen, **how)
    finally:
        ended.set()
        thread.join()
        for failure in failures:
            raise failure


def _interrupt(ended: threading.Event) -> None:
    import _thread

    if not ended.is_set():
        _thread.interrupt_main()


def _idle(lab: Lab, tags: int = 1) -> bool:
    """Whether the first pass of each tag is over, and nothing is to be done."""
    return lab.sql("SELECT count(*) FROM vecmig.run WHERE reason LIKE 'no change is noted; last full pass %'") == [
        (tags,)
    ]


def _settled(lab: Lab) -> bool:
    made = text_hash("d.title || E'\\n\\n' || d.body")
    return not lab.sql("SELECT 1 FROM vecmig.change") and all(
        row == (0,)
        for row in lab.sql(
            "SELECT count(*) FROM documents d, vecmig.route r, unnest(ARRAY[r.live, r.standby]) AS tag "
            "WHERE tag IS NOT NULL AND NOT EXISTS (SELECT FROM documents_vectors v WHERE v.id = d.id AND v.tag = tag "
            f"AND v.source_hash = {made})"
        )
    )


@pytest.mark.upgraded
def test_edits_reach_all_tags_each_once(lab: Lab, model: Model) -> None:
    model.embedded.clear()

    def story() -> Iterator[Callable[[], bool]]:
        yield lambda: _idle(lab, tags=2)
        lab.sql("UPDATE documents SET body = 'one' WHERE id = 1")
        yield lambda: _settled(lab)
        lab.sql("INSERT INTO documents VALUES (21, 'two', 'new')")
        lab.sql("DELETE FROM documents WHERE id = 5")
        yield lambda: _settled(lab)

    assert _watch(lab, story()) == {("documents", LARGE): 2, ("documents", SMALL): 2}
    edited = ("title 1\n\none", "two\n\nnew")
    assert model.embedded == Counter({(dims, text): 1 for dims in (64, 256) for text in edited})
    lines = [event.summary for event in lab.events if isinstance(event, StepDone) and event.step == "sync"]
    assert lines[0].startswith("documents: 1 embedded under ")
    assert lines[0].split("; ")[1] in ("no change waits", "1 change waits, for 0 s")
    assert lab.sql("SELECT count(*) FROM vecmig.run") == [(0,)]


@pytest.mark.upgraded
def test_a_full_pass_that_is_noted_as_needed_is_done_at_once(lab: Lab, model: Model) -> None:
    model.embedded.clear()

    def story() -> Iterator[Callable[[], bool]]:
        yield lambda: _idle(lab, tags=2)
        with psycopg.connect(lab.url) as unseen:
            unseen.execute("SET session_replication_role = replica")
            unseen.execute("UPDATE documents SET body = 'new' WHERE id = 3")
            unseen.execute("INSERT INTO vecmig.full_pass (collection, reason) VALUES ('documents', 'a test')")
        yield lambda: _settled(lab) and not lab.sql("SELECT 1 FROM vecmig.full_pass")

    _watch(lab, story())
    assert (model.total(64), model.total(256)) == (1, 1)


@pytest.mark.upgraded("r1")
def test_a_cutover_and_a_rollback_are_followed_without_a_restart(lab: Lab, model: Model) -> None:

    def story() -> Iterator[Callable[[], bool]]:
        yield lambda: lab.sql("SELECT tag FROM vecmig.run") == [(SMALL,)]
        assert lab.upgrade(listener=lambda event: None) == ["live"]
        lab.sql("UPDATE documents SET body = 'one' WHERE id = 1")
        yield lambda: _settled(lab)
        assert lab.downgrade() == ["r2"]
        lab.sql("UPDATE documents SET body = 'two' WHERE id = 2")
        yield lambda: _settled(lab)
        yield lambda: lab.sql("SELECT tag FROM vecmig.run") == [(SMALL,)]

    _watch(lab, story())
    assert model.total(256) == 20 + 1, "the tag that was taken back is kept complete no more"
    assert model.total(64) == 20 + 2


@pytest.mark.upgraded("r2", until="expand")
def test_a_candidate_is_kept_complete_once_its_backfill_is_done(lab: Lab, model: Model) -> None:
    """Nobody asked the service to embed everything: a backfill that stopped, at its budget maybe, is not its own."""

    def story() -> Iterator[Callable[[], bool]]:
        yield lambda: lab.sql("SELECT tag FROM vecmig.run") == [(SMALL,)]
        lab.sql("UPDATE documents SET body = 'one' WHERE id = 1")
        yield lambda: model.embedded[64, "title 1\n\none"] == 1
        assert model.total(256) == 0
        lab.upgrade(until="backfill", listener=lambda event: None)
        lab.sql("UPDATE documents SET body = 'two' WHERE id = 2")
        yield lambda: _settled(lab)

    _watch(lab, story())
    assert lab.cover(LARGE).share == 1
    assert model.total(256) == 21
    assert f"documents: {LARGE} is left to its backfill, until that is complete" in _noted(lab.events)


def test_a_poison_record_is_rejected_once_and_does_not_make_it_spin(lab: Lab, model: Model) -> None:
    def refuse(texts: list[str]) -> None:
        asked.update(texts)
        if any("POISON" in text for text in texts):
            raise PoisonInputError("no")

    asked: Counter[str] = Counter()
    lab.upgrade("r1")
    model.before = refuse

    def story() -> Iterator[Callable[[], bool]]:
        lab.sql("UPDATE documents SET body = 'POISON' WHERE id = 1")
        yield lambda: lab.sql("SELECT count(*) FROM vecmig.rejected") == [(1,)]
        yield lambda: not lab.waiting
        lab.sql("UPDATE documents SET body = 'fine' WHERE id = 2")
        yield lambda: not lab.waiting

    _watch(lab, story())
    assert asked["title 1\n\nPOISON"] == 2, "a text that is refused alone is sent once more"
    assert lab.cover(SMALL).rejected == 1


@pytest.mark.upgraded("r1")
def test_a_record_that_an_application_holds_is_not_paid_for_until_it_is_free(lab: Lab, model: Model) -> None:
    model.embedded.clear()

    def story() -> Iterator[Callable[[], bool]]:
        yield lambda: _idle(lab)
        with psycopg.connect(lab.url) as holding, psycopg.connect(lab.url) as editing:
            editing.execute("UPDATE documents SET body = 'held' WHERE id = 1")
            editing.commit()
            holding.execute("SELECT FROM documents WHERE id = 1 FOR UPDATE")
            lab.sql("UPDATE documents SET body = 'free' WHERE id = 2")
            yield lambda: lab.waiting == ["1"]
            lab.sql("UPDATE documents SET body = 'free' WHERE id = 3")
            yield lambda: lab.waiting == ["1"]
        yield lambda: not lab.waiting

    _watch(lab, story())
    assert model.total() == 3
    assert lab.cover(SMALL).share == 1


@pytest.mark.upgraded("r1")
def test_a_lost_database_is_waited_for(lab: Lab, model: Model) -> None:

    def story() -> Iterator[Callable[[], bool]]:
        yield lambda: bool(lab.sql("SELECT 1 FROM vecmig.run"))
        for number in (1, 2, 3):
            lab.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'vecmig%'")
            lab.sql("UPDATE documents SET body = %s WHERE id = %s", f"after {number}", number)
            yield lambda: _settled(lab)

    _watch(lab, story())
    assert model.total(64) == 23
    assert any(isinstance(event, Waiting) for event in lab.events)


#: So many transactions that a new cluster's numbers are smaller.
_BURN = "DO $$ BEGIN FOR n IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"


def test_a_cluster_that_was_restored_in_its_place_is_followed(tmp_path: Path, pgserver: Any, model: Model) -> None:
    programs = Path(pgserver.utils.POSTGRES_VERSIONS[pgserver.utils.TARGET_POSTGRES_VERSION])
    with own_cluster(programs, pgserver) as cluster, own_cluster(programs, pgserver) as other:
        for one in (cluster, other):
            one.create("--no-sync")
            one.start()
        server = configured(Postgres(cluster))
        lab = Lab(tmp_path, server.url(server.create_database()))
        with psycopg.connect(lab.url, autocommit=True) as connection:
            create_documents(connection)
        lab = lab.write()
        lab.upgrade("r1")
        lab.sql("UPDATE documents SET body = 'waits' WHERE id = 3")
        dump(server, "test_1", tmp_path / "all.dump", "--format=custom")
        restored = configured(Postgres(other))
        restored.execute("CREATE DATABASE test_1")
        restore(restored, tmp_path / "all.dump", "test_1")
        other.stop()
        lab.sql(_BURN)

        def story() -> Iterator[Callable[[], bool]]:
            yield lambda: _settled(lab)
            cluster.stop()
            cluster.pgdata.rename(cluster.home / "before")
            other.pgdata.rename(cluster.pgdata)
            cluster.start()
            yield lambda: _settled(lab)

        _watch(lab, story())
    assert model.embedded[64, "title 3\n\nwaits"] == 2


@pytest.mark.upgraded("r1")
def test_a_provider_that_refuses_for_good_ends_the_service(lab: Lab, model: Model) -> None:

    def refuse(texts: list[str]) -> None:
        raise TerminalEmbedderError("wrong key")

    def story() -> Iterator[Callable[[], bool]]:
        model.before = refuse
        lab.sql("UPDATE documents SET body = 'one' WHERE id = 1")
        yield lambda: False

    with pytest.raises(TerminalEmbedderError, match="wrong key"):
        _watch(lab, story())


@pytest.mark.upgraded("r1")
def test_a_service_does_not_take_back_what_a_newer_collections_yaml_said(lab: Lab) -> None:

    def story() -> Iterator[Callable[[], bool]]:
        yield lambda: bool(lab.sql("SELECT 1 FROM vecmig.run"))
        lab.sql("UPDATE vecmig.collection SET text_expression = 'title'")
        yield lambda: False

    with pytest.raises(ConfigError, match="is not what the database was brought to"):
        _watch(lab, story())
    assert lab.sql("SELECT text_expression FROM vecmig.collection") == [("title",)]


def test_a_collection_that_nothing_tells_of_is_scanned(
    bare_lab: Lab, make_source: Any, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecmig.runner.collection_watch.SCAN_EVERY", 0.1)
    make_source()
    lab = bare_lab.write(options={"change_tracking": "scan"}, chain=(CHUNKED,))
    lab.upgrade()

    def story() -> Iterator[Callable[[], bool]]:
        yield lambda: bool(lab.sql("SELECT 1 FROM vecmig.run"))
        lab.sql("UPDATE documents SET body = 'one' WHERE id = 1")
        yield lambda: lab.cover(CHUNKED).stale == 0

    _watch(lab, story(), full_every=0)


def test_it_waits_for_a_first_tag(lab: Lab) -> None:
    def story() -> Iterator[Callable[[], bool]]:
        assert lab.upgrade("r1", listener=lambda event: None) == ["live"]
        lab.sql("UPDATE documents SET body = 'one' WHERE id = 1")
        yield lambda: _settled(lab)

    assert _watch(lab, story()) == {("documents", SMALL): 1}


def test_a_collection_whose_source_is_gone_holds_up_no_other(lab: Lab, model: Model) -> None:
    lab.sql("CREATE TABLE notes (id bigint PRIMARY KEY, title text, body text)")
    lab.sql("INSERT INTO notes SELECT id, title, body FROM documents")
    path = lab.path / "migrations/collections.yaml"
    data = yaml.safe_load(path.read_text())
    known = data["collections"]
    data["collections"] = {"a notes": {**known["documents"], "source": "public.notes"}} | known
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    versions = lab.path / "migrations/versions"
    (versions / "r2.py").unlink()
    (versions / "n1.py").write_text(
        (versions / "r1.py").read_text().replace("r1", "n1").replace("'documents'", "'a notes'")
    )
    lab.upgrade("heads")
    lab.sql("DROP TABLE notes CASCADE")
    lab.sql("UPDATE documents SET body = 'changed' WHERE id = 3")
    with pytest.raises((ConfigError, DatabaseError), match="notes"):
        lab.sync()
    assert lab.cover(SMALL).fresh == 20
    assert any("a notes is left out" in event.message for event in lab.events if isinstance(event, Warned))
