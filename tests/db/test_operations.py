"""Every operation is taken forward, back and forward again, and killed at each of its commits."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from support.embedding import Model
from support.halfway import Halfway
from support.lab import LARGE, Lab, create_documents
from support.operations import OPERATIONS, Kill, killer, operation
from support.postgres import Postgres

#: What takes back nothing: vectors and index were paid for.
KEPT: Final = {"backfill", "build_index"}
_REVISION: Final = "r2"


@pytest.fixture
def template(postgres: Postgres, tmp_path: Path, model: Model) -> str:
    """A database of 20 documents, whose live tag is that of r1; r2 was not begun."""

    def prepare(url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            create_documents(connection)
            connection.execute("CREATE TABLE side AS SELECT 0 AS n")
        folder = tmp_path / "prepared"
        folder.mkdir()
        assert Lab(folder, url).write().upgrade("r1") == ["live"]

    name, _ = postgres.prepared("operations", prepare)
    model.embedded.clear()
    return name


@pytest.fixture
def lab(bare_lab: Lab) -> Lab:
    """The project on it."""
    return bare_lab.write()


@pytest.fixture
def kill(lab: Lab) -> Iterator[Kill]:
    """What kills an operation of r2."""
    with killer(lab.path / "vecmig.ini", _REVISION) as kill:
        yield kill


def _run(lab: Lab, name: str) -> None:
    operation(name, lab.path / "vecmig.ini", lab.url, _REVISION).run()


def _before(lab: Lab, name: str) -> None:
    """Take r2 to where an operation follows."""
    for earlier in list(OPERATIONS)[: list(OPERATIONS).index(name)]:
        if earlier != "execute":
            _run(lab, earlier)


def _state(lab: Lab, model: Model) -> list[Any]:
    """All that an operation may change, but the history and what tells the time."""
    vectors = lab.inspected().vectors.as_string(None)
    return [
        Halfway(lab, model).objects,
        lab.sql("SELECT live, standby, candidate FROM vecmig.route"),
        lab.sql("SELECT id, phase, withdrawn_at IS NULL FROM vecmig.revision ORDER BY id"),
        lab.sql("SELECT tag, state, canary FROM vecmig.tag ORDER BY tag"),
        lab.sql("SELECT revision, step, ordinal, sha256 FROM vecmig.statement"),
        lab.sql(f"SELECT tag, id, source_hash, embedding::text FROM {vectors} ORDER BY tag, id"),
    ]


def _times(lab: Lab) -> int:
    """How often the statement of the team's own ran."""
    ((times,),) = lab.sql("SELECT n FROM side")
    return int(times)


def _events(lab: Lab) -> list[tuple[Any, ...]]:
    return lab.sql("SELECT kind, count(*) FROM vecmig.event WHERE revision = %s GROUP BY 1 ORDER BY 1", _REVISION)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_goes_forward_back_and_forward_again(lab: Lab, model: Model, name: str) -> None:
    _before(lab, name)
    step = operation(name, lab.path / "vecmig.ini", lab.url, _REVISION)
    before = _state(lab, model)
    assert not step.done()
    step.run()
    assert step.done()
    after = _state(lab, model)
    assert after != before
    step.undo()
    assert step.done() == (name in KEPT)
    assert (_state(lab, model) == after) == (name in KEPT)
    step.run()
    assert _state(lab, model) == after
    events = _events(lab)
    step.run()
    assert step.done()
    assert _state(lab, model) == after
    assert name in KEPT or _events(lab) == events, "what is done is not done again"
    assert _times(lab) == (2 if name == "execute" else 0)
    assert not model.embedded or max(model.embedded.values()) == 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_that_is_killed_at_any_commit_is_resumed_by_running_it_again(
    lab: Lab, model: Model, postgres: Postgres, kill: Kill, name: str
) -> None:
    _before(lab, name)
    ((template,),) = lab.sql("SELECT current_database()")
    with _copied(lab, postgres, template) as uncut:
        _run(uncut, name)
        expected = _state(uncut, model), _times(uncut)
    for number in count(1):
        with _copied(lab, postgres, template) as copy:
            code = kill(name, copy.url, number)
            if code == 0:
                assert (_state(copy, model), _times(copy)) == expected
                break
            assert code == -signal.SIGKILL
            _end_sessions(copy)
            there = copy.sql(f"SELECT id FROM {copy.inspected().vectors.as_string(None)} WHERE tag = %s", LARGE)
            model.embedded.clear()
            _run(copy, name)
            assert (_state(copy, model), _times(copy)) == expected
            again = {text for _, text in model.embedded} & {f"title {n}\n\nbody {n}" for (n,) in there}
            assert not again, "what was written is not bought again"
    assert number > 1, "it was killed at least once"


@contextmanager
def _copied(lab: Lab, postgres: Postgres, template: str) -> Iterator[Lab]:
    """The project on a copy of a database; the sessions of that are over."""
    name = postgres.create_database(template=template)
    yield replace(lab, url=postgres.url(name))
    postgres.drop_database(name)


def _end_sessions(lab: Lab) -> None:
    """End the sessions that a killed process has left on the server."""
    lab.sql(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
