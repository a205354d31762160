"""A rollback holds: no upgrade undoes it before somebody releases it."""

from __future__ import annotations

import pytest

from support.embedding import Model
from support.lab import LARGE, SMALL, TINY, Lab
from vecmig import runner
from vecmig.errors import GateRefused, ScriptError, UsageError
from vecmig.runner import RevisionResult


def _upgrade(lab: Lab, target: str = "head", *, release: bool = False) -> list[tuple[str, str]]:
    return [(step.revision, step.outcome) for step in runner.upgrade(lab.config, target, release=release)]


def _back(lab: Lab, target: str = "-1", **how: str | bool) -> tuple[RevisionResult, ...]:
    return runner.downgrade(lab.config, target, **how)  # type: ignore[arg-type]


def _cut_short(lab: Lab) -> None:
    """Roll r2 back by a script that fails between the switch and the end of its downgrade(); mend the script."""
    path = lab.path / "migrations" / "versions" / "r2.py"
    written = path.read_text()
    path.write_text(written.replace("    m.rollback()\n", "    m.rollback()\n    m.execute('SELECT 1/0')\n"))
    with pytest.raises(Exception, match="division by zero"):
        _back(lab)
    path.write_text(written)


def _held(lab: Lab) -> set[str]:
    return {id_ for (id_,) in lab.sql("SELECT id FROM vecmig.revision WHERE held_at IS NOT NULL")}


@pytest.mark.upgraded
def test_an_upgrade_does_not_undo_a_rollback(lab: Lab, model: Model) -> None:
    embedded = model.total()
    (back,) = _back(lab, reason="recall fell")
    assert (back.outcome, back.on_hold, back.note) == ("rolled back", True, f"reads of documents use {SMALL}")
    for target in ("head", "heads", "r2", "+1"):
        assert _upgrade(lab, target) == [("r2", "on hold")]
    assert lab.live == SMALL
    (passed,) = runner.upgrade(lab.config)
    assert "recall fell; to go forward: vecmig release r2" in passed.note
    assert model.total() == embedded


@pytest.mark.upgraded
def test_nothing_asks_for_what_is_on_hold(lab: Lab) -> None:
    _back(lab, reason="recall fell")
    status = runner.status(lab.config)
    assert status.settled
    assert status.pending == ()
    assert status.next_command is None
    assert status.next_step == "nothing to do; on hold: r2 (to go forward: vecmig release r2)"
    assert runner.current(lab.config).at_head
    assert runner.estimate(lab.config) == ()
    (held,) = lab.status().held
    assert held.hold is not None
    assert held.hold.reason == "recall fell"


@pytest.mark.upgraded
def test_a_release_lets_the_next_upgrade_go_forward_and_embeds_nothing(lab: Lab, model: Model) -> None:
    _back(lab)
    embedded = model.total()
    assert runner.release(lab.config, ["r2"]) == ("r2",)
    assert runner.status(lab.config).next_command == "vecmig upgrade head"
    assert _upgrade(lab) == [("r2", "live")]
    assert (lab.live, model.total()) == (LARGE, embedded)


@pytest.mark.upgraded
def test_an_upgrade_can_release_on_its_way(lab: Lab) -> None:
    _back(lab, reason="recall fell")
    assert _upgrade(lab, release=True) == [("r2", "live")]
    assert _held(lab) == set()
    kinds = [kind for (kind,) in lab.sql("SELECT kind FROM vecmig.event WHERE kind IN ('rollback', 'release')")]
    assert kinds == ["rollback", "release"]
    assert lab.sql("SELECT data ->> 'reason' FROM vecmig.event WHERE kind = 'rollback'") == [("recall fell",)]


@pytest.mark.upgraded
def test_scripts_that_go_up_and_down_ask_for_no_hold(lab: Lab) -> None:
    (back,) = _back(lab, hold=False)
    assert not back.on_hold
    assert _upgrade(lab) == [("r2", "live")]


@pytest.mark.upgraded("r2", until="backfill")
def test_a_candidate_that_was_abandoned_is_on_hold(lab: Lab) -> None:
    (back,) = _back(lab)
    assert (back.outcome, back.on_hold) == ("abandoned", True)
    assert back.note == f"reads of documents have not moved: they use {SMALL}"
    assert back.command == "vecmig downgrade -1"
    assert _upgrade(lab) == [("r2", "on hold")]
    assert runner.status(lab.config).settled


@pytest.mark.upgraded
def test_where_no_tag_is_live_nothing_is_on_hold(lab: Lab) -> None:
    _back(lab)
    assert _held(lab) == {"r2"}
    assert [step.on_hold for step in _back(lab, "base")] == [False]
    assert _held(lab) == set()
    assert _upgrade(lab) == [("r1", "live"), ("r2", "live")]


@pytest.mark.upgraded("r1", until="backfill")
def test_a_first_tag_that_was_abandoned_may_begin_again(lab: Lab) -> None:
    (back,) = _back(lab)
    assert (back.outcome, back.on_hold, back.note) == ("abandoned", False, "reads of documents use no tag")
    assert _upgrade(lab, "r1") == [("r1", "live")]


@pytest.mark.upgraded
def test_a_revision_from_the_live_tag_goes_past_what_is_on_hold(lab: Lab) -> None:
    _back(lab)
    grown = lab.write(chain=[SMALL, LARGE, TINY])
    grown.script(3, SMALL, TINY)
    assert _upgrade(grown) == [("r3", "live"), ("r2", "on hold")]
    assert grown.live == TINY
    status = runner.status(grown.config)
    assert (status.settled, status.current) == (True, ("r3",))
    _back(grown)
    assert grown.live == SMALL
    assert _held(grown) == {"r2", "r3"}


@pytest.mark.upgraded
def test_what_starts_from_its_tag_waits(lab: Lab) -> None:
    _back(lab)
    grown = lab.write(chain=[SMALL, LARGE, TINY])
    assert _upgrade(grown) == [("r2", "on hold"), ("r3", "waits")]
    assert runner.status(grown.config).settled
    with pytest.raises(UsageError, match="Revision r3 is not on hold"):
        runner.release(grown.config, ["r3"])
    runner.release(grown.config, ["r2"])
    assert _upgrade(grown) == [("r2", "live"), ("r3", "live")]


@pytest.mark.upgraded
def test_of_two_on_hold_the_upper_one_is_not_released_alone(lab: Lab) -> None:
    grown = lab.write(chain=[SMALL, LARGE, TINY])
    grown.upgrade()
    _back(grown, "-2")
    assert (_held(grown), grown.live) == ({"r2", "r3"}, SMALL)
    with pytest.raises(UsageError, match="waits for r2") as refused:
        runner.release(grown.config, ["head"])
    assert refused.value.hint == "To release both: vecmig release r2 r3"
    assert runner.release(grown.config, ["r2", "r3"]) == ("r2", "r3")


def test_a_release_needs_something_on_hold(lab: Lab) -> None:
    lab.upgrade()
    with pytest.raises(UsageError, match="Revision r2 is not on hold") as refused:
        runner.release(lab.config, ["r2"])
    assert refused.value.hint == "No revision is on hold."
    with pytest.raises(ScriptError):
        runner.release(lab.config, ["nothing"])


@pytest.mark.upgraded
def test_a_stamp_says_that_it_is_live_and_ends_the_hold(lab: Lab) -> None:
    _back(lab)
    lab.sql("UPDATE vecmig.route SET live = %s, standby = %s", LARGE, SMALL)
    runner.stamp(lab.config, "r2")
    assert _held(lab) == set()


@pytest.mark.upgraded
def test_a_rollback_that_is_killed_after_the_switch_holds_already(lab: Lab) -> None:
    """Between the switch and the end of downgrade() a script may run statements of its own, and fail."""
    _cut_short(lab)
    assert (lab.live, _held(lab)) == (SMALL, {"r2"})
    assert _upgrade(lab) == [("r2", "on hold")]
    assert [step.revision for step in _back(lab)] == ["r2"], "the same command finishes it, and goes no further"
    assert lab.live == SMALL


def test_statements_that_were_rolled_back_are_on_hold_too(lab: Lab) -> None:
    lab.upgrade("r1")
    script = lab.path / "migrations" / "versions" / "r2.py"
    script.write_text(
        '"""index"""\nrevision = "r2"\ndown_revision = "r1"\n\n\ndef upgrade(m):\n    m.execute("CREATE TABLE t ()")\n'
        '\n\ndef downgrade(m):\n    m.execute("DROP TABLE t")\n'
    )
    assert _upgrade(lab) == [("r2", "live")]
    _back(lab)
    assert _upgrade(lab) == [("r2", "on hold")]
    assert lab.sql("SELECT to_regclass('t')") == [(None,)]
    _back(lab, "base")
    assert _upgrade(lab) == [("r1", "live"), ("r2", "live")]


@pytest.mark.upgraded
def test_a_downgrade_leaves_out_what_was_rolled_back_before(lab: Lab) -> None:
    _back(lab)
    grown = lab.write(chain=[SMALL, LARGE, TINY])
    grown.script(3, SMALL, TINY)
    assert _upgrade(grown) == [("r3", "live"), ("r2", "on hold")]
    assert [step.revision for step in _back(grown, "base")] == ["r3", "r1"]
    assert (grown.live, _held(grown)) == (None, set())


@pytest.mark.upgraded
def test_a_downgrade_to_base_that_is_refused_on_its_way_holds_what_it_rolled_back(lab: Lab) -> None:
    grown = lab.write(chain=[SMALL, LARGE, TINY])
    grown.upgrade()
    grown.sql("INSERT INTO documents SELECT n, 'new', 'record' FROM generate_series(100, 120) AS n")
    grown.sync()
    with pytest.raises(GateRefused):
        _back(grown, "base", reason="start over")
    assert (grown.live, _held(grown)) == (LARGE, {"r3"})
    assert _upgrade(grown) == [("r3", "on hold")]


@pytest.mark.upgraded
def test_a_rollback_that_was_cut_short_is_named_until_it_is_finished(lab: Lab) -> None:
    _cut_short(lab)
    status = runner.status(lab.config)
    assert (status.settled, status.next_command) == (False, "vecmig downgrade -1")
    verdict = runner.verdict_of(status, status.collections[0])
    assert (verdict.word, verdict.why) == ("ATTENTION", "a downgrade was cut short")
    with pytest.raises(UsageError, match="was cut short") as refused:
        runner.release(lab.config, ["r2"])
    assert refused.value.hint == "Run: vecmig downgrade -1"
    (back,) = _back(lab)
    assert (back.outcome, back.note) == ("rolled back", f"reads of documents use {SMALL}")
    assert runner.status(lab.config).settled


def test_where_a_replacement_is_rolled_back_what_it_replaced_stays_passed_by(lab: Lab) -> None:
    grown = lab.write(chain=[SMALL, LARGE, TINY])
    grown.script(3, SMALL, TINY)
    assert _upgrade(grown) == [("r1", "live"), ("r3", "live"), ("r2", "passed by")]
    _back(grown)
    assert _upgrade(grown) == [("r2", "passed by"), ("r3", "on hold")]
    assert grown.live == SMALL
    assert runner.status(grown.config).settled
    assert _upgrade(grown, "r2") == [("r2", "live")], "by its name it can be had"


@pytest.mark.upgraded
def test_what_is_on_hold_is_so_without_its_script(lab: Lab) -> None:
    _back(lab, reason="recall fell")
    (lab.path / "migrations" / "versions" / "r2.py").unlink()
    status = runner.status(lab.config)
    assert (status.settled, status.next_step) == (True, "nothing to do; on hold: r2")
    (passed,) = status.passed
    assert passed.words.endswith(": recall fell; its script is gone")


@pytest.mark.upgraded
def test_a_reason_is_one_line(lab: Lab) -> None:
    _back(lab, reason="recall fell\n\nnext      vecmig upgrade head --release" + "!" * 1000)
    (passed,) = runner.status(lab.config).passed
    assert passed.hold is not None
    assert passed.hold.reason is not None
    assert passed.hold.reason.startswith("recall fell next      vecmig upgrade head --release!!")
    assert len(passed.hold.reason) == 300
