"""Each check of the gate refuses when it should, names the cause, and says what to do."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from support.checks import said
from support.embedding import Model
from support.lab import LARGE, SMALL, Lab, recipe
from support.postgres import Connect
from vecmig import runner
from vecmig.check import Check
from vecmig.errors import GateRefused, TerminalEmbedderError, VecmigError
from vecmig.gate import CANARY_SIMILARITY, judge_again

Connection = psycopg.Connection[Any]
Vectors = NDArray[np.float32]


def _failed(lab: Lab) -> dict[str, Check]:
    _, report = runner.gate_reports(lab.config)["documents"]
    return {check.name: check for check in report.failed}


def _delete(connection: Connection, tag: str, condition: str = "true") -> None:
    connection.execute(f"DELETE FROM documents_vectors WHERE tag = %s AND {condition}", [tag])


def _written(connection: Connection) -> list[Any]:
    """Tell when each vector was written; the gate embeds a sample again, and writes nothing."""
    return connection.execute("SELECT tag, id, chunk, embedded_at FROM documents_vectors ORDER BY 1, 2, 3").fetchall()


def _reject_half(model: Model, share: int) -> None:
    def after(texts: list[str], vectors: Vectors) -> Vectors:
        for row, text in enumerate(texts):
            vectors[row] *= int(text.split()[-1]) > share
        return vectors

    model.after = after


@pytest.mark.parametrize(("rejected", "passes"), [(1, True), (2, False)])
def test_coverage_just_above_and_below(
    bare_lab: Lab, make_source: Any, model: Model, rejected: int, passes: bool
) -> None:
    make_source(200)
    lab = bare_lab.write(chain=(SMALL,))
    _reject_half(model, rejected)
    if passes:
        assert lab.upgrade() == ["live"]
        return
    with pytest.raises(GateRefused, match="refuses the cutover") as refused:
        lab.upgrade()
    assert [check.name for check in refused.value.failed] == ["coverage"]
    assert refused.value.failed[0].detail == "2 of 200 records have no fresh vector, 2 of them rejected"
    assert refused.value.state.startswith("Nothing was changed")
    assert lab.live is None
    lab.write(coverage=0.99)  # a gate that is too strict is changed in the revision
    assert lab.upgrade() == ["live"]


@pytest.mark.upgraded("r2", until="gate")
def test_vectors_deleted_by_hand(lab: Lab, connection: Connection) -> None:
    _delete(connection, LARGE, "id = 1")
    failed = _failed(lab)
    assert set(failed) == {"coverage", "freshness", "unexplained"}
    assert failed["unexplained"].value == 1
    assert lab.backfill().share == 1.0
    assert _failed(lab) == {}


@pytest.mark.upgraded("r1", until="gate", records=1000, chain=(SMALL,))
def test_one_vector_that_nothing_explains_is_enough(lab: Lab, connection: Connection) -> None:
    _delete(connection, SMALL, "id = 1")
    assert set(_failed(lab)) == {"unexplained"}
    connection.execute("UPDATE documents SET body = 'x' WHERE id = 1")
    assert _failed(lab) == {}


@pytest.mark.upgraded("r2", until="gate")
def test_triggers_that_are_disabled_or_gone(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE documents DISABLE TRIGGER vecmig_documents_track")
    assert _failed(lab)["unexplained"].value == "no triggers"
    connection.execute("ALTER TABLE documents ENABLE TRIGGER vecmig_documents_track")
    assert _failed(lab) == {}
    connection.execute("DROP TRIGGER vecmig_documents_track_truncate ON documents")
    assert _failed(lab)["unexplained"].value == "no triggers"


@pytest.mark.upgraded("r2", until="gate")
def test_triggers_that_fire_only_for_replicas_tell_of_nothing(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE documents ENABLE REPLICA TRIGGER vecmig_documents_track")
    assert _failed(lab)["unexplained"].value == "no triggers"
    connection.execute("ALTER TABLE documents ENABLE ALWAYS TRIGGER vecmig_documents_track")
    assert _failed(lab) == {}


@pytest.mark.upgraded("r2", until="gate")
def test_what_the_remedy_for_lost_triggers_says_works(lab: Lab, connection: Connection, model: Model) -> None:
    connection.execute("ALTER TABLE documents DISABLE TRIGGER vecmig_documents_track")
    connection.execute("DROP TRIGGER vecmig_documents_track_truncate ON documents")
    assert said(_failed(lab)["unexplained"]) == "Run: vecmig sync (it installs them again)"
    asked = model.total()
    lab.sync()
    assert model.total() == asked
    assert _failed(lab) == {}
    written = _written(connection)
    assert lab.upgrade() == ["live"]
    assert _written(connection) == written


@pytest.mark.upgraded("r2", until="gate")
def test_an_index_that_is_gone(lab: Lab, connection: Connection) -> None:
    name = connection.execute(
        "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = %s::regclass AND NOT indisprimary",
        [lab.stamps(LARGE).relation.as_string(connection)],
    ).fetchone()
    assert name is not None
    connection.execute(f"DROP INDEX {name[0]}")
    assert {"index", "index used"} == set(_failed(lab))
    assert _failed(lab)["index"].value == "none"
    assert lab.upgrade(until="gate") == ["indexed"]
    assert _failed(lab) == {}


@pytest.mark.upgraded("r1", until="backfill")
def test_an_index_build_that_was_cancelled_is_done_again(lab: Lab, connect: Connect, connection: Connection) -> None:
    holder = connect(autocommit=False)
    # CREATE INDEX CONCURRENTLY waits for every transaction that may have written the table
    holder.execute(f"LOCK {lab.stamps(SMALL).relation.as_string(connection)} IN ROW EXCLUSIVE MODE")
    errors: list[BaseException] = []

    def build() -> None:
        try:
            lab.upgrade(until="index")
        except VecmigError as error:
            errors.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    waiting = "query LIKE 'CREATE INDEX%' AND wait_event = 'virtualxid' AND datname = current_database()"
    cancel = f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE {waiting}"
    for _ in range(500):
        if connection.execute(cancel).fetchone():
            break
        thread.join(0.01)
    thread.join(30)
    assert len(errors) == 1
    assert _failed(lab)["index"].value == "invalid"
    holder.rollback()
    assert lab.upgrade("r1") == ["live"]
    assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)
    assert lab.status().tags[0].index.word == "valid"


@pytest.mark.upgraded("r2", until="gate")
def test_an_old_tag_too_incomplete_to_go_back_to(lab: Lab, connection: Connection) -> None:
    _delete(connection, SMALL, "id < 3")
    failed = _failed(lab)
    assert set(failed) == {"rollback"}
    assert failed["rollback"].detail == "the old tag lacks 2 of 20 records"
    lab.sync()
    assert _failed(lab) == {}


@pytest.mark.upgraded("r2", until="gate")
def test_an_old_tag_that_is_gone(lab: Lab, connection: Connection) -> None:
    connection.execute(f"DROP TABLE {lab.stamps(SMALL).relation.as_string(connection)}")
    assert "are gone" in _failed(lab)["rollback"].detail


@pytest.mark.upgraded("r2", until="gate")
def test_a_constraint_that_is_gone(lab: Lab, connection: Connection) -> None:
    relation = lab.stamps(LARGE).relation.as_string(connection)
    connection.execute(f"ALTER TABLE {relation} DROP CONSTRAINT vecmig_vector")
    assert set(_failed(lab)) == {"vectors"}


@pytest.mark.upgraded("r2", until="gate")
def test_other_weights_behind_the_same_name(lab: Lab, model: Model, connection: Connection) -> None:
    asked = model.total()
    model.weights = "new"
    failed = _failed(lab)
    assert set(failed) == {"canary", "spot check"}
    assert "other vectors" in failed["canary"].detail
    assert (failed["spot check"].passed, said(failed["spot check"])) == (None, "Correct the canary first.")
    with pytest.raises(GateRefused):
        lab.upgrade()
    connection.execute("UPDATE documents SET body = 'x' WHERE id = 1")
    with pytest.raises(TerminalEmbedderError, match="not the one that made its vectors") as refused:
        lab.backfill()
    assert refused.value.state == "Nothing was embedded."
    assert model.total() == asked
    model.weights = ""
    lab.sync()
    assert lab.upgrade() == ["live"]


@pytest.mark.upgraded("r2", until="gate")
def test_weights_that_changed_in_the_last_digits_only(lab: Lab, model: Model) -> None:
    model.drift = lambda vectors: vectors.astype(np.float16).astype(np.float32)
    assert _failed(lab) == {}
    assert lab.upgrade() == ["live"]


@pytest.mark.parametrize(("change", "same"), [(0.0001, True), (-0.0001, False)])
@pytest.mark.upgraded("r2", until="gate")
def test_how_much_weights_may_change(lab: Lab, model: Model, connection: Connection, change: float, same: bool) -> None:
    similarity = CANARY_SIMILARITY + change
    model.drift = lambda vectors: _turned(vectors, similarity)
    _, report = runner.gate_reports(lab.config)["documents"]
    canary = {check.name: check for check in report.checks}["canary"]
    assert canary.value == pytest.approx(similarity, abs=1e-6)
    assert canary.passed is same
    if same:
        assert lab.upgrade() == ["live"]
        return
    with pytest.raises(GateRefused):
        lab.upgrade()
    connection.execute("UPDATE documents SET body = 'x' WHERE id = 1")
    with pytest.raises(TerminalEmbedderError, match=r"not the one that made its vectors: similarity 0\.9989"):
        lab.upgrade()
    assert lab.live == SMALL


def _turned(vectors: Vectors, similarity: float) -> Vectors:
    """Turn each unit vector so that its cosine to what it was is ``similarity``."""
    aside = np.roll(vectors, 1, axis=1)
    aside -= (aside * vectors).sum(axis=1, keepdims=True) * vectors
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    turned: Vectors = (similarity * vectors + np.sqrt(1 - similarity**2) * aside).astype(np.float32)
    return turned


@pytest.mark.parametrize("most", [1, 2])
def test_a_provider_that_takes_fewer_texts_than_the_canary_has(
    lab: Lab, model: Model, connection: Connection, most: int
) -> None:
    asked: list[int] = []

    def keep(vectors: Vectors) -> Vectors:
        asked.append(len(vectors))
        return vectors

    model.drift = keep
    lab = lab.write(chain=(SMALL,), recipes={SMALL: recipe(SMALL, max_batch=most)})
    assert lab.upgrade() == ["live"]
    connection.execute("UPDATE documents SET body = 'x' WHERE id = 1")
    lab.sync()
    assert max(asked) == most


@pytest.mark.upgraded("r2", until="gate")
def test_an_embedder_that_does_not_answer(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(texts: list[str], kind: str) -> None:
        raise TerminalEmbedderError("The key is wrong.")

    monkeypatch.setattr("support.embedding.embed256", refuse)
    failed = _failed(lab)
    assert set(failed) == {"canary", "spot check"}
    assert failed["canary"].detail == "The key is wrong."
    assert failed["spot check"].passed is None, "it is not asked again"


@pytest.mark.upgraded("r2", until="gate")
def test_an_embedder_that_answers_no_more_after_the_canary(lab: Lab, model: Model) -> None:
    def refuse(texts: list[str]) -> None:
        raise TerminalEmbedderError("The quota is used up.")

    model.before = refuse
    failed = _failed(lab)
    assert set(failed) == {"spot check"}
    assert failed["spot check"].detail == "The quota is used up."
    assert lab.live == SMALL


@pytest.mark.upgraded("r2", until="gate")
def test_without_the_embedder_nothing_is_said_about_the_canary_and_the_sample(lab: Lab) -> None:
    _, report = runner.gate_reports(lab.config, ask=False)["documents"]
    assert [check.name for check in report.failed] == ["canary", "spot check"]
    assert [check.passed for check in report.failed] == [None, None]
    assert {said(check) for check in report.failed} == {"Run: vecmig gate"}
    assert not report.passed


def test_an_empty_collection_may_go_live(bare_lab: Lab, make_source: Any, connection: Connection) -> None:
    make_source(0)
    lab = bare_lab.write()
    assert lab.upgrade() == ["live", "live"]
    connection.execute("INSERT INTO documents VALUES (1, 'a', 'b')")
    assert lab.cover(LARGE).share == 0
    lab.sync()
    assert connection.execute("SELECT tag FROM documents_live").fetchall() == [(LARGE,)]


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ("DROP INDEX {partition}_hnsw", "index"),
        ("ALTER TABLE documents DISABLE TRIGGER USER", "unexplained"),
        ("ALTER TABLE documents_vectors DETACH PARTITION {partition}", "vectors"),
        ("ALTER TABLE {partition} DROP CONSTRAINT vecmig_vector", "vectors"),
        ("UPDATE documents SET body = body || '!' WHERE id = 1", "coverage"),
    ],
)
@pytest.mark.upgraded("r1")
def test_whatever_fails_between_gate_and_flip_stops_the_flip(
    lab: Lab, connect: Connect, monkeypatch: pytest.MonkeyPatch, change: str, failed: str
) -> None:
    lab.script(2, SMALL, LARGE, coverage=1.0, budget=0.5)
    lab.upgrade(until="gate")
    partition = lab.stamps(LARGE).source.partition_name(LARGE)

    def meanwhile(*values: Any) -> Any:
        connect().execute(change.format(partition=partition))
        return judge_again(*values)

    monkeypatch.setattr("vecmig.operations.cutover.judge_again", meanwhile)
    with pytest.raises(GateRefused) as refused:
        lab.upgrade()
    assert failed in {check.name for check in refused.value.failed}
    assert lab.sql("SELECT live FROM vecmig.route") == [(SMALL,)]


def test_what_the_old_tag_rejected_does_not_close_the_way_back(lab: Lab, model: Model) -> None:
    model.after = lambda texts, vectors: vectors * np.array([[text != "title 1\n\nbody 1"] for text in texts])
    lab = lab.write(coverage=0.9)
    lab.upgrade("r1")
    model.after = lambda _, vectors: vectors
    lab.script(2, SMALL, LARGE, coverage=1.0)
    assert lab.upgrade() == ["live"]
