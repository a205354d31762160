"""A revision may change the index of the live tag alone: it is built beside the one that serves, judged, and used."""

from __future__ import annotations

from typing import Any

import pytest

from support.adopting import adopts, give_vectors, literal
from support.embedding import Model
from support.lab import LARGE, SMALL, Lab, create_documents, recipe
from vecmig import runner
from vecmig.errors import GateRefused, ScriptError
from vecmig.events import StepDone
from vecmig.operations.reindexing import Reindex
from vecmig.postgres.sessions import Connection

COUNT = 400
VECTOR = "(((embedding)::vector(256)) vector_cosine_ops)"
HALFVEC = "(((embedding)::halfvec(256)) halfvec_cosine_ops)"
BIT = "(((binary_quantize(embedding))::bit(256)) bit_hamming_ops)"
BY_HALFVEC = [({"type": "halfvec"},)]
#: By no choice of the tag's own.
AS_EVER: list[Any] = [({},)]
SERVED = "SELECT index FROM vecmig.tag WHERE tag = %s"


def indexes(lab: Lab) -> list[str]:
    rows = lab.sql("SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%' ORDER BY 1")
    return [definition.split(" USING hnsw ")[1].split(" WITH ")[0] for (definition,) in rows]


def searched(lab: Lab) -> str:
    """What the search function orders by; it finds what it is asked for."""
    rows = lab.sql("SELECT id FROM documents_search(%s::text::vector, 5)", literal("title 7\n\nbody 7", 256))
    assert rows[0] == (7,)
    ((body,),) = lab.sql("SELECT prosrc FROM pg_proc WHERE proname = 'documents_search'")
    return BIT if "binary_quantize" in body else HALFVEC if '"halfvec"' in body else VECTOR


def with_index(lab: Lab, *, after: tuple[str, ...] = (), **index: Any) -> Lab:
    """Write a second revision, of the index alone, with what collections.yaml asks for, and others that follow it."""
    chain = (LARGE, *after)
    lab = lab.write(chain=chain, recipes={LARGE: recipe(LARGE, index=index)})
    for number, (old, new) in enumerate(zip((None, LARGE, LARGE, *after), (LARGE, LARGE, *after), strict=False), 1):
        lab.script(number, old, new)
    return lab


@pytest.fixture
def live(bare_lab: Lab, connection: Connection) -> Lab:
    """A collection whose live tag has the usual index."""
    create_documents(connection, COUNT)
    # the planner rightly reads so few rows without an index
    connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET enable_seqscan = off')
    connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET seq_page_cost = 1e9')
    lab = bare_lab.write(chain=(LARGE,))
    lab.upgrade()
    assert indexes(lab) == [VECTOR]
    return lab


def test_searches_go_by_the_new_index_and_back_and_no_text_is_embedded(live: Lab, model: Model) -> None:
    bought = model.total()
    lab = with_index(live, type="halfvec")
    assert lab.upgrade() == ["live"]
    assert (lab.live, lab.sql(SERVED, LARGE)) == (LARGE, BY_HALFVEC)
    assert indexes(lab) == [HALFVEC, VECTOR], "what served before stays for a rollback"
    assert searched(lab) == HALFVEC
    with lab.reader() as reader:
        assert reader.search("documents", "title 9\n\nbody 9", k=1)[0].key == (9,)
        asked = model.total()
        assert lab.downgrade(hold=True) == ["r2"]
        assert reader.search("documents", "title 9\n\nbody 9", k=1)[0].key == (9,)
    assert (lab.live, lab.sql(SERVED, LARGE), searched(lab)) == (LARGE, AS_EVER, VECTOR)
    assert asked == bought

    assert lab.upgrade() == ["indexed"], "it is on hold"
    runner.release(lab.config, ["r2"])
    assert lab.upgrade() == ["live"]
    assert lab.sql(SERVED, LARGE) == BY_HALFVEC
    built = lab.sql("SELECT count(*) FROM vecmig.event WHERE kind = 'index' AND data ? 'seconds'")
    assert built == [(2,)], "each once"


def test_what_it_says_meanwhile_and_afterwards(live: Lab) -> None:
    lab = with_index(live, type="halfvec")
    (planned,) = runner.estimate(lab.config)
    assert (planned.pending, [one.type for one in planned.indexes if one.chosen]) == (0, ["halfvec"])
    lab.upgrade(until="expand")
    gate = lab.status().gate
    assert gate is not None
    row, report = gate
    assert (row.id, row.phase) == ("r2", "expanded")
    assert {"index", "index used"} < {check.name for check in report.failed}
    lab.upgrade(until="index")
    assert runner.gate_reports(lab.config)["documents"][1].passed
    assert runner.audit(lab.config).findings == ()
    assert lab.sql(SERVED, LARGE) == AS_EVER
    lab.upgrade()
    (finding,) = runner.audit(lab.config).findings
    assert finding.kind == "extra index"
    assert "served before revision r2" in finding.detail


def test_a_gate_that_refuses_leaves_searches_as_they_are(live: Lab) -> None:
    lab = with_index(live, type="bit", rerank=1)
    lab.recall = 0.95
    lab.script(2, LARGE, LARGE)
    with pytest.raises(GateRefused) as error:
        lab.upgrade()
    assert [check.name for check in error.value.checks if not check.passed] == ["index recall"]
    assert (lab.sql(SERVED, LARGE), searched(lab)) == (AS_EVER, VECTOR)


def test_it_is_abandoned_with_or_without_what_it_has_built(live: Lab) -> None:
    lab = with_index(live, type="bit")
    lab.upgrade(until="index")
    lab.downgrade()
    assert indexes(lab) == [BIT, VECTOR]
    assert lab.upgrade(until="index") == ["indexed"]
    assert lab.downgrade(discard=True) == ["r2"]
    assert (indexes(lab), lab.sql(SERVED, LARGE), searched(lab)) == ([VECTOR], AS_EVER, VECTOR)
    assert lab.upgrade() == ["live"]


def test_a_run_that_was_cut_short_behind_the_switch_goes_on(live: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = with_index(live, type="halfvec")

    def cut(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Reindex, "_verified", cut)
        with pytest.raises(KeyboardInterrupt):
            lab.upgrade()
    assert lab.upgrade() == []
    assert lab.sql(SERVED, LARGE) == BY_HALFVEC
    with monkeypatch.context() as patch:
        patch.setattr(Reindex, "_verified", cut)
        with pytest.raises(KeyboardInterrupt):
            lab.downgrade(hold=True)
    assert lab.sql(SERVED, LARGE) == AS_EVER
    assert runner.status(lab.config).next.command == "vecmig downgrade -1"
    assert lab.downgrade(hold=True) == ["r2"]
    assert lab.sql("SELECT withdrawn_at IS NOT NULL FROM vecmig.revision WHERE id = 'r2'") == [(True,)]


@pytest.mark.parametrize("held", [False, True])
def test_what_comes_after_it_does_not_wait_for_it(live: Lab, held: bool) -> None:
    lab = with_index(live, type="halfvec")
    lab.upgrade()
    if held:
        lab.downgrade(hold=True)
    lab = with_index(live, after=(SMALL,), type="halfvec")
    lab.upgrade()
    assert lab.live == SMALL
    served = AS_EVER if held else BY_HALFVEC
    lab.downgrade()
    assert (lab.live, lab.sql(SERVED, LARGE)) == (LARGE, served)
    lab.upgrade()
    assert lab.live == SMALL


def test_a_database_that_begins_with_all_of_them_builds_one_index(bare_lab: Lab, connection: Connection) -> None:
    create_documents(connection, COUNT)
    lab = with_index(bare_lab, type="halfvec")
    assert lab.upgrade() == ["live", "live"]
    assert (indexes(lab), lab.sql(SERVED, LARGE)) == ([HALFVEC], BY_HALFVEC)
    lab.downgrade()
    assert (indexes(lab), lab.sql(SERVED, LARGE)) == ([HALFVEC], BY_HALFVEC)


def test_a_rollback_builds_again_what_somebody_has_dropped(live: Lab) -> None:
    lab = with_index(live, type="halfvec")
    lab.upgrade()
    ((name,),) = lab.sql("SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%vector_cosine_ops%'")
    lab.sql(f"DROP INDEX {name}")
    events: list[Any] = []
    lab.downgrade(listener=events.append)
    assert [one.step for one in events if isinstance(one, StepDone)] == ["index", "rollback"]
    assert (indexes(lab), searched(lab)) == ([HALFVEC, VECTOR], VECTOR)


def test_it_is_for_the_live_tag_and_a_stamped_one_is_taken_back_as_it_is(live: Lab) -> None:
    lab = live.write(chain=(LARGE, SMALL))
    lab.script(2, SMALL, SMALL)
    with pytest.raises(ScriptError, match=f"changes the index of {SMALL}, but documents reads {LARGE}"):
        lab.upgrade()
    lab = with_index(live, type="halfvec")
    runner.stamp(lab.config, "r2")
    lab.downgrade()
    assert (lab.live, lab.sql(SERVED, LARGE)) == (LARGE, AS_EVER)


def test_in_place_too_and_nothing_of_it_stays_in_the_source(lab: Lab) -> None:
    give_vectors(lab)
    lab = lab.write(chain=(SMALL,))
    adopts(lab, 'm.adopt("embedding", home="column")')
    lab.upgrade()
    lab = lab.write(chain=(SMALL,), recipes={SMALL: recipe(SMALL, index={"type": "halfvec"})})
    adopts(lab, 'm.adopt("embedding", home="column")')
    lab.script(2, SMALL, SMALL)
    assert lab.upgrade() == ["live"]
    assert len(indexes(lab)) == 2
    with lab.reader() as reader:
        assert reader.search("documents", "title 7\n\nbody 7", k=1)[0].key == (7,)
    lab.downgrade("base")
    assert indexes(lab) == []


def test_its_indexes_go_with_the_vectors(live: Lab) -> None:
    lab = with_index(live, after=(SMALL,), type="halfvec")
    path = lab.path / "migrations" / "versions" / "r3.py"
    path.write_text(path.read_text() + "\nfrom vecmig import Trust\n\ntrust = Trust(days=0, eval_days=0)\n")
    lab.upgrade()
    runner.retire(lab.config, "documents", LARGE)
    assert [one for one in indexes(lab) if "256" in one] == []
