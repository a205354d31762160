"""A script is resumed where it failed: nothing runs twice, nothing is left out, nothing goes too far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.errors import VecmigError

COUNT = "INSERT INTO side VALUES (1)"


def _insert(lab: Lab, number: int, after: str, statement: str = COUNT) -> None:
    """Put ``m.execute(statement)`` behind one call of a revision's script."""
    path = lab.path / "migrations" / "versions" / f"r{number}.py"
    path.write_text(path.read_text().replace(after, f"{after}\n    m.execute({statement!r})"))


def _ran(lab: Lab) -> int:
    return int(lab.sql("SELECT count(*) FROM side")[0][0])


@pytest.mark.parametrize("after", ["m.expand()", "m.backfill()", "m.build_index()", "m.cutover(gate)"])
def test_a_statement_that_failed_runs_when_the_upgrade_is_resumed(lab: Lab, after: str) -> None:
    _insert(lab, 1, after)
    for _ in range(2):
        with pytest.raises(VecmigError, match=r"relation \"side\" does not exist"):
            lab.upgrade("r1")
        assert runner.current(lab.config).heads == ()
    lab.sql("CREATE TABLE side (n int)")
    assert lab.upgrade("r1") == ["live"]
    assert lab.live == SMALL
    assert _ran(lab) == 1
    assert lab.upgrade("r1") == []
    assert _ran(lab) == 1


def test_a_downgrade_that_failed_takes_back_the_same_revision_when_it_is_resumed(lab: Lab) -> None:
    _insert(lab, 2, "m.rollback()")
    lab.upgrade()
    with pytest.raises(VecmigError, match=r"relation \"side\" does not exist"):
        lab.downgrade()
    assert lab.live == SMALL
    lab.sql("CREATE TABLE side (n int)")
    assert lab.downgrade() == ["r2"]
    assert (lab.live, _ran(lab)) == (SMALL, 1)
    assert lab.downgrade() == ["r1"]


def test_a_downgrade_that_was_cut_short_can_be_given_up(lab: Lab) -> None:
    _insert(lab, 2, "m.rollback()")
    lab.upgrade()
    with pytest.raises(VecmigError):
        lab.downgrade()
    assert lab.upgrade() == ["live"]
    assert lab.live == LARGE


def test_statements_run_again_each_time_a_revision_goes_forward_or_back(lab: Lab) -> None:
    lab.sql("CREATE TABLE side (n int)")
    _insert(lab, 2, "m.expand()")
    _insert(lab, 2, "m.rollback()")
    for times in range(1, 3):
        lab.upgrade()
        lab.downgrade()
        assert _ran(lab) == 2 * times


@pytest.mark.parametrize("until", ["backfill", "index", "gate"])
def test_until_stops_before_what_stands_behind_the_cutover(lab: Lab, until: str) -> None:
    lab.sql("CREATE TABLE side (n int)")
    _insert(lab, 1, "m.cutover(gate)")
    lab.upgrade("r1", until=until)
    assert (_ran(lab), lab.live) == (0, None)
    lab.upgrade("r1")
    assert (_ran(lab), lab.live) == (1, SMALL)


def test_a_limited_backfill_stops_before_what_stands_behind_it(lab: Lab) -> None:
    lab.sql("CREATE TABLE side (n int)")
    _insert(lab, 1, "m.backfill()")
    lab.upgrade("r1", until="expand")
    assert lab.backfill(limit=8).fresh >= 8
    assert _ran(lab) == 0
    lab.upgrade("r1")
    assert _ran(lab) == 1


# What the way back depends on ---------------------------------------------------------------------------------------


def _break_yaml(lab: Lab) -> None:
    (lab.path / "migrations" / "collections.yaml").write_text("collections: [")


def _break_text(lab: Lab) -> None:
    lab.write(text="(1 / (id - id))::text")


@pytest.mark.parametrize("spoil", [_break_yaml, _break_text])
@pytest.mark.upgraded
def test_the_way_back_does_not_depend_on_collections_yaml(lab: Lab, spoil: Callable[[Lab], Any]) -> None:
    spoil(lab)
    assert lab.downgrade() == ["r2"]
    assert lab.write().live == SMALL


# collections.yaml after expand --------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_where_is_followed_by_the_live_view(lab: Lab) -> None:
    """A condition that hides records must hide them at the next sync, not at the next cutover."""
    stricter = lab.write(options={"where": "id > 5"})
    status = stricter.status()
    assert status.problem is not None
    assert "was changed in collections.yaml" in status.problem.message
    stricter.sync()
    assert stricter.status().problem is None
    assert stricter.sql("SELECT count(*), min(id) FROM documents_live") == [(15, 6)]


def test_text_is_followed_by_the_triggers(lab: Lab) -> None:
    lab.sql("ALTER TABLE documents ADD COLUMN extra text DEFAULT 'more'")
    lab.upgrade("r1")
    lab.upgrade(until="expand")
    wider = lab.write(text="title || E'\\n\\n' || body || extra")
    assert wider.checks()["unexplained"] is False
    wider.sync()
    wider.upgrade(until="gate")
    assert wider.status().outbox.records == 0
    wider.sql("UPDATE documents SET extra = 'other' WHERE id = 1")
    assert wider.status().outbox.records == 1


def test_a_mistake_in_text_costs_no_vector_and_opens_no_gate(lab: Lab) -> None:
    lab.sql("ALTER TABLE documents ADD COLUMN summary text")
    lab.upgrade("r1")
    empty = lab.write(text="summary")
    empty.sync()
    assert empty.sql("SELECT count(*) FROM documents_vectors") == [(20,)]
    assert any("nothing was deleted" in getattr(event, "message", "") for event in empty.events)
    with pytest.raises(VecmigError, match="coverage"):
        empty.upgrade()
    assert lab.write().live == SMALL


@pytest.mark.upgraded
def test_a_record_that_was_emptied_loses_its_vectors(lab: Lab) -> None:
    lab.sql("UPDATE documents SET body = NULL WHERE id <= 15")
    lab.sync()
    assert lab.sql("SELECT count(*) FROM documents_vectors") == [(10,)]
