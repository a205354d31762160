"""The ledger follows scripts that were edited, renamed or taken out: nothing is wedged, and nothing is skipped."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from support.lab import LARGE, SMALL, TINY, Lab, recipe
from vecmig import runner
from vecmig.errors import LockHeld
from vecmig.postgres.locks import runner_locks

Connection = psycopg.Connection[Any]


def _row(connection: Connection, revision: str) -> tuple[Any, ...] | None:
    query = "SELECT old_tag, new_tag, phase, live_at IS NOT NULL FROM vecmig.revision WHERE id = %s"
    return connection.execute(query, [revision]).fetchone()


@pytest.mark.parametrize("was_live", [True, False])
@pytest.mark.upgraded("r1")
def test_a_withdrawn_revision_may_be_edited(lab: Lab, connection: Connection, was_live: bool) -> None:
    lab.upgrade() if was_live else lab.upgrade(until="expand")
    lab.downgrade()
    lab = lab.write(chain=(SMALL, TINY), recipes={TINY: recipe(TINY)})
    assert lab.upgrade(until="expand") == ["expanded"]
    assert _row(connection, "r2") == (SMALL, TINY, "expanded", False)
    assert lab.upgrade() == ["live"]
    assert lab.live == TINY
    assert lab.downgrade() == ["r2"]
    assert lab.live == SMALL


@pytest.mark.upgraded
def test_a_stamp_says_what_the_script_says(lab: Lab, connection: Connection) -> None:
    connection.execute("UPDATE vecmig.revision SET new_tag = 'other', live_at = NULL WHERE id = 'r2'")
    connection.execute("UPDATE vecmig.revision SET checksum = 'other' WHERE id = 'r2'")
    assert runner.stamp(lab.config, "r2") == ("r2",)
    assert _row(connection, "r2") == (SMALL, LARGE, "live", True)


def _statement_revision(lab: Lab) -> None:
    text = (lab.path / "migrations" / "versions" / "r1.py").read_text()
    text = text.replace("m.expand()", 'm.execute("INSERT INTO ran VALUES (1)")').replace("m.build_index()", "pass")
    text = text.replace("m.backfill()", "pass").replace("m.cutover(gate)", "pass").replace("m.rollback()", "pass")
    for name in ("collection", "new_tag"):
        text = text.replace(f"{name} = ", f"{name} = None  # ")
    text = text.replace("gate = Gate", "gate = None  # ").replace('revision = "r1"', 'revision = "r0"')
    for script in (lab.path / "migrations" / "versions").glob("*.py"):
        script.unlink()
    (lab.path / "migrations" / "versions" / "r1.py").write_text(text)


def test_the_statements_of_a_revision_that_is_stamped_away_run_again(lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE TABLE ran (n int)")
    _statement_revision(lab)
    assert lab.upgrade() == ["live"]
    assert runner.stamp(lab.config, "base") == ("r1",)
    assert connection.execute("SELECT count(*) FROM vecmig.statement").fetchone() == (0,)
    assert lab.upgrade() == ["live"]
    assert connection.execute("SELECT count(*) FROM ran").fetchone() == (2,)


@pytest.mark.upgraded
def test_a_stamp_locks_the_collections_whose_revisions_it_removes(lab: Lab) -> None:
    with runner_locks(lab.database, ["documents"], what="sync"), pytest.raises(LockHeld):
        runner.stamp(lab.config, "base")
