"""Where a tag's vectors live is data: it is read in one place, and what this version does not know is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.config import Config
from vecmig.errors import DatabaseError
from vecmig.homes import open_home
from vecmig.homes.partition import PartitionHome
from vecmig.ledger import install
from vecmig.ledger.ledger import Ledger


def test_a_tag_lives_in_a_partition(lab: Lab) -> None:
    lab.upgrade("r1")
    with lab.opened(SMALL) as (connection, stamps):
        home = open_home(Ledger(connection, "vecmig"), stamps.source, SMALL)
        assert isinstance(home, PartitionHome)
        assert (home.exists(), home.guaranteed(), home.index().usable) == (True, True, True)
        assert len(home.sample(5)) == 5
    assert lab.sql("SELECT home FROM vecmig.tag") == [("partition",)]


@pytest.fixture
def elsewhere(lab: Lab) -> Lab:
    """A project two of whose tags have a home that this vecmig does not know."""
    lab.upgrade("r1")
    lab.script(2, SMALL, LARGE)
    lab.upgrade(until="index")
    lab.sql("UPDATE vecmig.tag SET home = 'elsewhere'")
    return lab


@pytest.mark.parametrize("command", [runner.sync, runner.upgrade])
def test_a_home_that_a_newer_vecmig_made_is_refused(elsewhere: Lab, command: Callable[[Config], object]) -> None:
    with pytest.raises(DatabaseError, match="home of the kind 'elsewhere'") as refused:
        command(elsewhere.config)
    assert refused.value.hint == "Run: pip install --upgrade vecmig"


def test_status_says_what_to_do_about_a_home_that_a_newer_vecmig_made(elsewhere: Lab) -> None:
    problem = elsewhere.status().problem
    assert problem is not None
    assert "home of the kind 'elsewhere'" in problem.message
    assert problem.hint == "Run: pip install --upgrade vecmig"


def test_tags_of_an_older_ledger_keep_their_vectors(lab: Lab) -> None:
    lab.upgrade("r1")
    lab.sql("ALTER TABLE vecmig.tag ADD COLUMN partition text NOT NULL DEFAULT 'x', DROP COLUMN home")
    lab.sql(
        "ALTER TABLE vecmig.revision DROP COLUMN held_at, DROP COLUMN held_by, DROP COLUMN hold_reason, "
        "DROP COLUMN index_before"
    )
    lab.sql("ALTER TABLE vecmig.tag DROP COLUMN adopted, DROP COLUMN verified")
    lab.sql("ALTER TABLE vecmig.tag DROP COLUMN index, DROP COLUMN recall")
    lab.sql("ALTER TABLE vecmig.change DROP COLUMN vector_changed_in, DROP COLUMN text_changed_by")
    lab.sql("DROP FUNCTION vecmig.try_vector; DROP TRIGGER kept ON vecmig.event")
    lab.sql("DROP TABLE vecmig.superseded, vecmig.fill, vecmig.batch_order, vecmig.last_full_pass")
    lab.sql("ALTER TABLE vecmig.run DROP COLUMN ends_at, ADD CONSTRAINT run_what_check CHECK (what <> '')")
    lab.sql("DELETE FROM vecmig.schema_version WHERE version >= 12")
    (before,) = runner.status(lab.config).collections
    assert [tag.coverage.share for tag in before.tags] == [1.0]
    assert install.ensure(lab.database) == 11
    (after,) = runner.status(lab.config).collections
    assert after == before
