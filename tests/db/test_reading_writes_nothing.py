"""Reading commands write nothing, not even vecmig's own schema, and never round coverage up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from support.lab import SMALL, Lab
from support.postgres import Connect
from vecmig import runner
from vecmig.errors import VecmigError
from vecmig.postgres import settings

Connection = psycopg.Connection[Any]


def _search(lab: Lab) -> None:
    with lab.reader() as reader:
        reader.search("documents", "body 3", 3)


def _drop(line: str) -> None:
    """Take a line that a command would print."""


READS: dict[str, Callable[[Lab], object]] = {
    "status": lambda lab: lab.status(),
    "current": lambda lab: runner.current(lab.config),
    "gate": lambda lab: lab.checks(),
    "search": _search,
    "rejected": lambda lab: runner.rejected(lab.config),
    "events": lambda lab: (
        list(runner.events(lab.config)),
        runner.newest_event(lab.config),
        runner.known_tags(lab.config),
    ),
    "audit": lambda lab: runner.audit(lab.config),
    "discover": lambda lab: runner.discover(lab.config),
    "estimate": lambda lab: runner.estimate(lab.config),
    "export_vectors": lambda lab: runner.export_vectors(lab.config, lab.name, SMALL, lab.path / "vectors"),
    "upgrade_sql": lambda lab: runner.upgrade_sql(lab.config, "head", _drop),
    "downgrade_sql": lambda lab: runner.downgrade_sql(lab.config, "-1", _drop),
}


@pytest.fixture
def forbidden(lab: Lab, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and every later session of this database runs its transactions read-only, also those of vecmig."""

    def forbid() -> None:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        monkeypatch.setitem(settings._OWN, "default_transaction_read_only", "on")

    return forbid


def test_before_vecmig_is_there(lab: Lab, connection: Connection, forbidden: Callable[[], None]) -> None:
    forbidden()
    found = lab.status()
    assert (found.records, found.eligible, found.tags, found.gate) == (20, 20, (), None)
    runner.current(lab.config)
    assert runner.gate_reports(lab.config) == {}
    assert (list(runner.events(lab.config)), runner.newest_event(lab.config), runner.known_tags(lab.config)) == (
        [],
        None,
        {},
    )
    with pytest.raises(VecmigError, match="no collection documents"):
        _search(lab)
    assert connection.execute("SELECT to_regnamespace('vecmig')").fetchone() == (None,)


@pytest.mark.parametrize("verb", READS)
@pytest.mark.upgraded("r2", until="index")
def test_in_the_middle_of_a_revision(lab: Lab, connect: Connect, forbidden: Callable[[], None], verb: str) -> None:
    connect().execute("UPDATE documents SET body = 'x' WHERE id = 1")
    forbidden()
    counters = (
        "SELECT pg_stat_force_next_flush()",
        "SELECT tup_inserted, tup_updated, tup_deleted FROM pg_stat_database WHERE datname = current_database()",
        "SELECT md5(string_agg(e::text, ',' ORDER BY id)) FROM vecmig.event e",
        "SELECT string_agg(c::text, ',' ORDER BY key) FROM vecmig.change c",
        "SELECT count(*), max(oid::bigint) FROM pg_class",
    )
    watch = connect()
    before = [watch.execute(query).fetchone() for query in counters]
    READS[verb](lab)
    assert [connect().execute(query).fetchone() for query in counters] == before


@pytest.mark.upgraded("r2", until="expand")
def test_status_says_how_everything_stands(lab: Lab, connection: Connection) -> None:
    lab.backfill(limit=8)
    connection.execute("UPDATE documents SET body = 'x' WHERE id IN (1, 20)")
    found = lab.status()
    small, large = found.tags
    assert (small.state, small.coverage.fresh, small.coverage.stale, small.index.word) == ("live", 18, 2, "valid")
    assert (large.state, large.coverage.fresh, large.coverage.stale) == ("building", 7, 1)
    assert (large.coverage.missing, large.coverage.unaccounted, large.index.word) == (12, 11, "none")
    assert found.outbox.records == 2
    assert found.gate is not None
    assert not found.gate[1].passed
    assert connection.execute("SELECT count(*) FROM documents_vectors WHERE tag = %s", [SMALL]).fetchone() == (20,)
