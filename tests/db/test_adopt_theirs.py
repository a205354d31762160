"""What only the application can make good: no page and no message names a command for it that would not help."""

from __future__ import annotations

import psycopg
import pytest

from support.adopting import adopts, give_vectors, literal
from support.embedding import Model
from support.lab import SMALL, Lab
from vecmig import runner
from vecmig.errors import GateRefused

ALL = 20
STALE = "UPDATE documents SET body = 'edited' WHERE id > 10"
FILLING = 'm.adopt("embedding", home="column", fill=True)'


def _write(lab: Lab, statement: str) -> None:
    with psycopg.connect(lab.url, application_name="cms") as connection:
        connection.execute(statement.encode())


@pytest.fixture
def filling(lab: Lab, model: Model) -> Lab:
    give_vectors(lab, where="id > 1")
    adopts(lab, FILLING)
    lab.upgrade("r1")
    assert model.total() == 1
    return lab


def test_status_says_who_has_to_write_and_names_no_command(filling: Lab, model: Model) -> None:
    filling = filling.write(chain=(SMALL,))
    adopts(filling, FILLING)
    _write(filling, "UPDATE documents SET body = 'edited' WHERE id IN (1, 13)")
    assert runner.status(filling.config).next_command == "vecmig sync"
    filling.sync()
    assert model.total() == 2
    found = runner.status(filling.config)
    (tag,) = found.collections[0].tags
    assert (tag.coverage.stale, tag.theirs, tag.lacking, found.next_command) == (1, 1, 0, None)
    assert found.next_step == (
        "nothing to run: the application has to write the vectors of 1 record of documents; postgres (cms) changed "
        "texts alone"
    )
    # either of what it says helps
    _write(filling, "UPDATE documents SET embedding = NULL WHERE id = 13")
    assert runner.status(filling.config).next_command == "vecmig sync"
    filling.sync()
    assert (filling.cover(SMALL).fresh, model.total()) == (ALL, 3)
    assert runner.status(filling.config).next_step == "nothing to do"


def test_the_gate_names_what_helps(lab: Lab, model: Model) -> None:
    give_vectors(lab, where="id > 1")
    adopts(lab, FILLING)
    lab.upgrade("r1", until="backfill")
    _write(lab, STALE)
    with pytest.raises(GateRefused, match="coverage") as refused:
        lab.upgrade("r1")
    assert "Or empty the column of those records" in refused.value.hint
    assert "fill=True" not in refused.value.hint
    assert "vecmig backfill" not in refused.value.hint
    assert lab.status().gate is not None
    assert runner.status(lab.config).next_command is None
    _write(lab, "UPDATE documents SET embedding = NULL WHERE id > 10")
    assert lab.upgrade("r1") == ["live"]
    assert (lab.cover(SMALL).fresh, model.total()) == (ALL, 11)


@pytest.mark.parametrize("call", [FILLING, 'm.adopt("embedding", fill=False)'])
def test_a_rollback_is_not_said_to_wait_for_a_sync_that_changes_nothing(lab: Lab, model: Model, call: str) -> None:
    give_vectors(lab)
    adopts(lab, call)
    lab.upgrade()
    _write(lab, STALE)
    lab.sync()
    way = lab.status().rollback
    assert way is not None
    assert (way.ready, way.lacking, way.theirs, way.kept_by_theirs) == (False, 10, 10, True)
    with pytest.raises(GateRefused) as refused:
        lab.downgrade()
    assert refused.value.hint.startswith("10 of these are the application's to write")
    vector = literal("title 11\n\nedited")
    _write(lab, f"UPDATE documents SET embedding = '{vector}' WHERE id > 10")
    lab.sync()
    lab.downgrade()
    assert lab.live == SMALL
