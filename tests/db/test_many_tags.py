"""A collection that has had two hundred tags takes no more statements than one that has had two."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.lab import SMALL, Lab
from support.statements import record_statements
from vecmig import runner

_RETIRED = """
INSERT INTO vecmig.tag (collection, tag, dims, recipe, fingerprint, state)
SELECT t.collection, format('toy@%%s/dim-64/chunk-none/norm-l2', n + 1), t.dims, t.recipe, t.fingerprint, 'retired'
FROM vecmig.tag t, generate_series(1, 200) n
WHERE t.tag = %s
"""


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Count what is sent while something runs."""
    sent = record_statements(monkeypatch)

    def count(work: Callable[[], object]) -> int:
        before = len(sent)
        work()
        return len(sent) - before

    return count


def _there_and_back(lab: Lab) -> dict[str, Callable[[], object]]:
    return {
        "status": lab.status,
        "upgrade with nothing to do": lab.upgrade,
        "sync": lab.sync,
        "downgrade": lab.downgrade,
        "upgrade": lab.upgrade,
        "ensure_version": lambda: runner.ensure_version(lab.config),
        "audit": lambda: runner.audit(lab.config),
    }


def test_retired_tags_cost_no_statement(lab: Lab, statements: Callable[[Callable[[], object]], int]) -> None:
    lab.upgrade()
    # once for what is made by the first time
    for work in _there_and_back(lab).values():
        statements(work)
    before = {name: statements(work) for name, work in _there_and_back(lab).items()}
    lab.sql(_RETIRED, SMALL)
    after = {name: statements(work) for name, work in _there_and_back(lab).items()}

    assert lab.sql("SELECT count(*) FROM vecmig.tag WHERE state = 'retired'") == [(200,)]
    more = {name: after[name] - before[name] for name in before}
    assert max(more.values()) < 20, f"a few for all of them, none for each: {more}"
