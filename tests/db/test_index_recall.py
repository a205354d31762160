"""The gate compares the search that production uses with the exact answer, and says which settings would be enough."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.embedding import Model, vector
from support.lab import LARGE, Lab, create_documents, recipe
from vecmig import runner
from vecmig.check import Check
from vecmig.errors import GateRefused
from vecmig.gate import recall
from vecmig.postgres.sessions import Connection

COUNT = 2_000
RECALL = "index recall"


def indexed(lab: Lab, **index: Any) -> Lab:
    return lab.write(chain=(LARGE,), recipes={LARGE: recipe(LARGE, index=index)}, recall=0.95)


def judged(lab: Lab) -> Check:
    _, report = runner.gate_reports(lab.config)[lab.name]
    (found,) = [check for check in report.checks if check.name == RECALL]
    return found


def refused(lab: Lab) -> GateRefused:
    with pytest.raises(GateRefused) as error:
        lab.upgrade()
    assert [check.name for check in error.value.checks if not check.passed] == [RECALL]
    return error.value


@pytest.fixture
def many(bare_lab: Lab, connection: Connection) -> Lab:
    create_documents(connection, COUNT)
    # the planner rightly reads so few rows without an index
    connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET seq_page_cost = 1e9')
    return bare_lab


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the gate compared with the exact answer, each time."""
    found: list[float] = []
    compare = recall._compare

    def listening(*values: Any) -> Any:
        one = compare(*values)
        found.append(one.share)
        return one

    monkeypatch.setattr(recall, "_compare", listening)
    return found


def half_of_the_vectors_are_lost(lab: Lab) -> None:
    """Let writes pass the index by, as one that is not ready yet does, and take it for ready afterwards."""
    lab.sql("CREATE TABLE kept AS SELECT * FROM documents_vectors WHERE mod(id, 2) = 0")
    lab.sql("DELETE FROM documents_vectors WHERE mod(id, 2) = 0")
    ((partition,),) = lab.sql(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'documents_vectors'::regclass"
    )
    lab.sql(f"VACUUM {partition}")
    index = f"(SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = '{partition}'::regclass AND NOT i.indisprimary)"
    lab.sql(f"UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = {index}")
    lab.sql("INSERT INTO documents_vectors SELECT * FROM kept")
    lab.sql(f"UPDATE pg_index SET indisready = true, indisvalid = true WHERE indexrelid = {index}")
    lab.sql("DROP TABLE kept")


def test_an_index_that_has_lost_half_of_the_vectors_is_refused_until_it_is_built_again(many: Lab) -> None:
    lab = indexed(many)
    lab.upgrade(until="index")
    half_of_the_vectors_are_lost(lab)
    error = refused(lab)
    assert "If the index has lost vectors, rebuild it" in error.hint or "Rebuild the index" in error.hint
    assert lab.live is None
    ((name,),) = lab.sql("SELECT indexrelid::regclass::text FROM pg_index WHERE indexrelid::regclass::text ~ 'hnsw'")
    lab.sql(f"DROP INDEX {name}")
    lab.upgrade()
    assert lab.live == LARGE


def test_too_few_candidates_are_refused_with_the_settings_that_are_enough(many: Lab) -> None:
    lab = indexed(many, type="bit", rerank=1)
    # these vectors are random, the worst for what has one bit of each number
    lab.upgrade(until="index")
    found = judged(lab)
    assert found.passed is False
    assert isinstance(found.value, float)
    assert found.value < 0.95
    assert found.remedy is not None
    assert found.remedy.text.startswith("Write index: {type: bit, rerank: ")
    rerank = int(found.remedy.text.split("rerank: ")[1].split("}")[0].split(",")[0])
    refused(lab)
    lab = indexed(many, type="bit", rerank=rerank)
    assert lab.upgrade() == ["live"]
    assert len(lab.sql("SELECT 1 FROM vecmig.event WHERE kind = 'index' AND data ? 'seconds'")) == 1, "it is built once"


def test_a_session_that_keeps_one_candidate_is_refused_and_ef_search_makes_up_for_it(
    many: Lab, connection: Connection
) -> None:
    lab = indexed(many)
    connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET hnsw.ef_search = 1')
    connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET hnsw.max_scan_tuples = 1')
    lab.upgrade(until="index")
    found = judged(lab)
    assert found.passed is False
    assert found.remedy is not None
    assert found.remedy.text.startswith("Write index: {ef_search: ")
    kept = int(found.remedy.text.split("ef_search: ")[1].split("}")[0])
    assert indexed(many, ef_search=kept).upgrade() == ["live"]
    # the search function keeps as many, too, and leaves the setting as it was
    ((count, left),) = lab.sql(
        "SELECT (SELECT count(*) FROM documents_search((SELECT embedding FROM documents_live WHERE id = 7), 10)), "
        "current_setting('hnsw.ef_search')"
    )
    assert (count, left) == (10, "1")


def test_the_exact_answer_is_taken_once_for_an_index(many: Lab, measured: list[float]) -> None:
    lab = indexed(many)
    lab.upgrade()
    assert len(measured) == 1
    lab.downgrade()
    lab.upgrade()
    assert (lab.live, len(measured)) == (LARGE, 1)
    lab.downgrade()
    ((name,),) = lab.sql("SELECT indexrelid::regclass::text FROM pg_index WHERE indexrelid::regclass::text ~ 'hnsw'")
    lab.sql(f"REINDEX INDEX {name}")
    lab.upgrade()
    assert len(measured) == 2, "another file, another index"


def test_copies_of_a_vector_are_asked_for_once(many: Lab, model: Model) -> None:
    def boilerplate(texts: list[str], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        # the body has the record's number; nine in ten records have one vector
        numbers = [int(text.rsplit(" ", 1)[1]) for text in texts]
        return np.stack([vector(str(number if number % 10 == 0 else 1), 256) for number in numbers])

    model.after = boilerplate
    lab = indexed(many.write(chain=(LARGE,)))
    lab.upgrade(until="index")
    asked = int(re.search(r"nearest to each of (\d+)", judged(lab).detail)[1])  # type: ignore[index]
    assert 1 < asked < 40


def test_as_good_an_answer_counts(many: Lab, model: Model) -> None:
    def ten_alike(texts: list[str], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        # the body has the record's number; six records each have one vector
        return np.stack([vector(str(int(text.rsplit(" ", 1)[1]) // 6), 256) for text in texts])

    model.after = ten_alike
    lab = indexed(many.write(chain=(LARGE,)))
    lab.upgrade(until="index")
    assert judged(lab).value == 1
