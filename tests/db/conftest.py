"""What the tests against PostgreSQL share: a small source table, the model, and a project on both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support import embedding
from support.lab import Lab, create_documents

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
    fresh = embedding.Model()
    embedding.model = fresh
    yield fresh
    embedding.model = embedding.Model()


@pytest.fixture
def bare_lab(tmp_path: Path, database_url: str, model: embedding.Model) -> Lab:
    """A project whose files are not written and whose source does not exist yet: the test says what they are."""
    return Lab(tmp_path, database_url)


@pytest.fixture
def lab(bare_lab: Lab, make_source: MakeSource) -> Lab:
    """A project on 20 documents; its revisions r1 and r2 go to 64 and to 256 dimensions."""
    make_source()
    return bare_lab.write()
