"""Forward, back and forward again: what is kept, what is deleted, what is refused, and by whom."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from support.embedding import Model
from support.lab import LARGE, SMALL, TINY, Lab, recipe
from support.postgres import Connect
from vecmig import runner
from vecmig.errors import DatabaseError, LockHeld, RecipeError, ScriptError, UsageError, VecmigError
from vecmig.events import Event, StepDone
from vecmig.postgres.locks import runner_locks

Connection = psycopg.Connection[Any]


def _vectors(connection: Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT tag, count(*) FROM documents_vectors GROUP BY tag").fetchall())


def _route(lab: Lab) -> tuple[str | None, str | None]:
    route = lab.status().route
    return route.live, route.standby


# Forward and back --------------------------------------------------------------------------------------------------


def test_up_down_up_embeds_nothing_twice(lab: Lab, model: Model, connection: Connection) -> None:
    assert lab.upgrade() == ["live", "live"]
    assert lab.downgrade() == ["r2"]
    assert _route(lab) == (SMALL, None)
    assert lab.cover(LARGE).share == 1.0
    assert lab.upgrade() == ["live"]
    assert lab.downgrade("base") == ["r2", "r1"]
    assert _route(lab) == (None, None)
    assert _vectors(connection) == {SMALL: 20, LARGE: 20}
    assert lab.upgrade() == ["live", "live"]
    assert _route(lab) == (LARGE, SMALL)
    assert model.total() == 40


@pytest.mark.upgraded
def test_both_tags_stay_complete_after_cutover(lab: Lab, connection: Connection) -> None:
    connection.execute("UPDATE documents SET body = 'new' WHERE id < 5")
    connection.execute("INSERT INTO documents VALUES (21, 'new', 'record')")
    assert set(lab.sync()) == {("documents", SMALL), ("documents", LARGE)}
    assert lab.cover(SMALL).share == lab.cover(LARGE).share == 1.0
    assert lab.downgrade() == ["r2"]
    assert connection.execute("SELECT count(*) FROM documents_live").fetchone() == (21,)


def test_each_phase_can_be_stopped_at_and_taken_up(lab: Lab) -> None:
    phases = {"expand": "expanded", "backfill": "backfilled", "index": "indexed", "gate": "indexed"}
    for until, phase in phases.items():
        assert lab.upgrade("r1", until=until) == [phase]
        assert lab.live is None
    assert lab.upgrade("r1") == ["live"]
    assert lab.upgrade("r1") == []


# What deletes ------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r2", until="backfill")
def test_an_abandoned_revision_keeps_its_vectors_unless_told(lab: Lab, connection: Connection, model: Model) -> None:
    assert lab.downgrade() == ["r2"]
    assert _vectors(connection) == {SMALL: 20, LARGE: 20}
    lab.upgrade(until="backfill")
    assert model.total() == 40
    assert lab.downgrade(discard=True) == ["r2"]
    assert _vectors(connection) == {SMALL: 20}
    assert [tag.tag for tag in lab.status().tags] == [SMALL]
    assert lab.upgrade() == ["live"]
    assert model.total() == 60


@pytest.mark.upgraded
def test_discard_never_touches_a_tag_that_is_or_was_live(lab: Lab, connection: Connection) -> None:
    with pytest.raises(ScriptError, match="never live"):
        lab.downgrade(discard=True)
    assert lab.live == LARGE
    lab.downgrade()
    lab.upgrade(until="index")
    with pytest.raises(ScriptError, match="never live"):
        lab.downgrade(discard=True)
    assert _vectors(connection) == {SMALL: 20, LARGE: 20}


@pytest.mark.parametrize("chain", [(SMALL, LARGE, SMALL), (SMALL, LARGE, TINY, SMALL)])
def test_discard_of_a_revision_that_goes_back_to_an_older_tag(
    lab: Lab, connection: Connection, chain: tuple[str, ...]
) -> None:
    """The revision was never live, but its tag was, under another revision."""
    lab = lab.write(chain=chain)
    lab.upgrade(f"r{len(chain) - 1}")
    lab.upgrade(until="backfill")
    with pytest.raises(ScriptError, match="never live"):
        lab.downgrade(discard=True)
    assert _vectors(connection)[SMALL] == 20
    assert lab.downgrade() == [f"r{len(chain)}"]
    assert _vectors(connection)[SMALL] == 20


def test_a_new_revision_goes_back_to_an_older_tag_without_embedding(lab: Lab, model: Model) -> None:
    lab = lab.write(chain=(SMALL, LARGE, SMALL))
    assert lab.upgrade() == ["live"] * 3
    assert _route(lab) == (SMALL, LARGE)
    assert lab.downgrade() == ["r3"]
    assert _route(lab) == (LARGE, SMALL)
    assert model.total() == 40


# One runner --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb",
    [
        lambda lab: lab.upgrade(),
        lambda lab: lab.downgrade(),
        lambda lab: lab.backfill(),
        lambda lab: runner.stamp(lab.config, "r1"),
    ],
    ids=["upgrade", "downgrade", "backfill", "stamp"],
)
@pytest.mark.upgraded("r2", until="expand")
def test_a_second_runner_is_told_who_is_at_work(lab: Lab, verb: Callable[[Lab], Any], connection: Connection) -> None:
    before = connection.execute("SELECT count(*) FROM vecmig.event").fetchone()
    with runner_locks(lab.database, ["documents"], what="upgrade"), pytest.raises(LockHeld) as held:
        verb(lab)
    assert "Another runner works on collection documents: vecmig upgrade " in held.value.message
    assert "pid " in held.value.message
    assert held.value.exit_code == 5
    assert connection.execute("SELECT count(*) FROM vecmig.event").fetchone() == before


@pytest.mark.upgraded("r1", until="index")
def test_reading_goes_on_beside_a_runner(lab: Lab) -> None:
    with runner_locks(lab.database, ["documents"], what="upgrade"):
        assert lab.status().name == "documents"
        assert all(lab.checks().values())


def test_two_runners_at_once_do_the_work_once(lab: Lab, model: Model) -> None:
    ended: list[str] = []

    def run() -> None:
        try:
            lab.upgrade()
            ended.append("done")
        except LockHeld:
            ended.append("held")

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert "done" in ended
    assert len(ended) == 3
    assert model.total() == 40
    assert lab.live == LARGE


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1")
def test_a_recipe_that_changed_under_its_tag(lab: Lab, model: Model) -> None:
    changed = lab.write(recipes={SMALL: recipe(SMALL, document_prompt="passage: {text}")})
    for verb in (changed.upgrade, changed.sync):
        with pytest.raises(RecipeError, match=r"document_prompt: 'passage: \{text\}', not '\{text\}'"):
            verb()
    assert model.total() == 20
    assert changed.downgrade() == ["r1"]
    with pytest.raises(RecipeError, match="changed since its vectors were made"):
        changed.upgrade("r1")


@pytest.mark.upgraded("r1")
def test_how_a_provider_is_reached_may_change(lab: Lab) -> None:
    assert lab.write(recipes={SMALL: recipe(SMALL, max_batch=3, concurrency=1)}).upgrade() == ["live"]


@pytest.mark.upgraded("r1")
def test_a_script_whose_old_tag_is_not_live(lab: Lab, connection: Connection) -> None:
    lab.write(chain=(SMALL, LARGE, TINY))
    lab.script(2, TINY, LARGE)
    with pytest.raises(ScriptError, match="starts from"):
        lab.upgrade("r2")
    assert _vectors(connection) == {SMALL: 20}
    assert lab.status().route.candidate is None


@pytest.mark.upgraded("r1")
def test_a_collection_whose_source_key_or_storage_changed(lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE TABLE other (LIKE documents INCLUDING ALL)")
    with pytest.raises(DatabaseError, match="other is another table than the one whose vectors documents has"):
        lab.write(source="public.other").upgrade()
    for changes in ({"options": {"storage": "halfvec"}}, {"options": {"metric": "l2"}}):
        with pytest.raises(DatabaseError, match="recorded otherwise than"):
            lab.write(**changes).upgrade()
    assert lab.write().upgrade() == ["live"]


def test_duplicate_and_missing_keys(bare_lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE TABLE documents (id int, body text); INSERT INTO documents VALUES (1, 'a'), (1, 'b')")
    lab = bare_lab.write(text="body")
    with pytest.raises(UsageError, match=r"1.*key|key.*1"):
        lab.upgrade()
    connection.execute("UPDATE documents SET id = NULL WHERE body = 'b'")
    with pytest.raises(UsageError, match="NULL in its key"):
        lab.upgrade()
    assert connection.execute("SELECT to_regclass('documents_vectors')").fetchone() == (None,)


def test_two_databases_of_tables_called_vecmig(lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE SCHEMA vecmig; CREATE TABLE vecmig.mine (x int)")
    for verb in (lab.upgrade, lab.status, lambda: runner.ensure_version(lab.config)):
        with pytest.raises(DatabaseError, match="exists but is not vecmig's"):
            verb()
    assert connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'vecmig'::regnamespace"
    ).fetchall() == [("mine",)]


def test_another_tools_schema_version(lab: Lab, connection: Connection) -> None:
    """Flyway keeps a table of that name as well."""
    connection.execute("CREATE SCHEMA vecmig; CREATE TABLE vecmig.schema_version (version varchar(50), script text)")
    connection.execute("INSERT INTO vecmig.schema_version VALUES ('1.2', 'V1_2.sql')")
    for verb in (lab.upgrade, lab.status):
        with pytest.raises(DatabaseError, match="exists but is not vecmig's"):
            verb()


@pytest.mark.upgraded("r1")
def test_a_schema_newer_than_this_program(lab: Lab, connection: Connection) -> None:
    connection.execute("INSERT INTO vecmig.schema_version VALUES (99)")
    for verb in (lab.upgrade, lab.downgrade, lab.status, lab.sync):
        with pytest.raises(DatabaseError, match="version 99; this vecmig knows up to"):
            verb()
    connection.execute("DELETE FROM vecmig.schema_version WHERE version = 99")
    assert lab.upgrade() == ["live"]


# A step reads back what it claims ------------------------------------------------------------------------------------


_UNDO = """
CREATE FUNCTION vecmig.undo() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.live := OLD.live; RETURN NEW; END';
CREATE TRIGGER undo BEFORE UPDATE ON vecmig.route FOR EACH ROW
WHEN (NEW.live IS DISTINCT FROM OLD.live) EXECUTE FUNCTION vecmig.undo();
"""


@pytest.mark.upgraded("r1")
def test_a_flip_that_did_not_happen_is_not_reported_as_done(lab: Lab, connection: Connection) -> None:
    connection.execute(_UNDO)
    events: list[Event] = []
    with pytest.raises(VecmigError, match="route of documents"):
        lab.upgrade(listener=events.append)
    assert not [event for event in events if isinstance(event, StepDone) and event.step == "cutover"]


def test_the_ledger_says_who_did_what(lab: Lab, connect: Connect) -> None:
    lab.upgrade("r1")
    rows = connect().execute("SELECT kind, tag, role, host, version, data FROM vecmig.event ORDER BY id").fetchall()
    assert [row[0] for row in rows] == ["expand", "backfill", "index", "cutover"]
    assert all(row[1] == SMALL and row[2] == "postgres" and row[3] and row[4] for row in rows)
    assert rows[1][5]["written"] == 20
    assert rows[3][5]["gate"]["coverage"] == 1.0
