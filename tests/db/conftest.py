"""What the tests against PostgreSQL share: a small source table, the model, and a project on both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support import embedding
from support.beginning import Beginning, begin
from support.lab import Lab, create_documents
from support.postgres import Postgres

MakeSource = Callable[..., int]


@pytest.fixture
def make_source(connection: psycopg.Connection[Any]) -> MakeSource:
    """``make_source(count=20, table="public.documents")`` creates ``(id bigint, title, body)`` and fills it."""

    def make(count: int = 20, table: str = "public.documents") -> int:
        return create_documents(connection, count, table)

    return make


@pytest.fixture
def model() -> Iterator[embedding.Model]:
    """The toy model, as new."""
    with embedding.fresh_model() as fresh:
        yield fresh


@pytest.fixture
def beginning(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Beginning | None:
    """What the test's ``upgraded`` mark says of its project; None without one."""
    mark = request.node.get_closest_marker("upgraded")
    return None if mark is None else begin(postgres, tmp_path_factory, *mark.args, **mark.kwargs)


@pytest.fixture
def template(beginning: Beginning | None) -> str | None:
    """The database in which ``lab`` stands where the test begins."""
    return None if beginning is None else beginning.database


@pytest.fixture
def bare_lab(tmp_path: Path, database_url: str, model: embedding.Model) -> Lab:
    """A project whose files are not written and whose source does not exist yet: the test says what they are."""
    return Lab(tmp_path, database_url)


@pytest.fixture
def lab(bare_lab: Lab, make_source: MakeSource, beginning: Beginning | None, model: embedding.Model) -> Lab:
    """A project on 20 documents; its revisions r1 and r2 go to 64 and to 256 dimensions.

    With ``@pytest.mark.upgraded("r1")`` it stands as after ``lab.upgrade("r1")``, which runs once for all such tests.
    """
    if beginning is not None:
        return beginning.take(bare_lab, model)
    make_source()
    return bare_lab.write()
