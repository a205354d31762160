"""``sync --watch`` of an adopted tag: what the application writes into its column is served, and nothing is bought."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator

import psycopg
import pytest

from support.cli import Vecmig
from support.embedded_documents import (
    CALLS,
    DIFFERENT,
    DIMS,
    ORPHANED,
    UNSTAMPED,
    change_vector,
    literal,
    prepare_adoption,
    write,
)
from support.project import Project
from support.provider import Provider, vector
from support.waiting import wait_for

COUNT = 40
IDLE = "SELECT count(*) FROM vecmig.run WHERE what = 'sync' AND reason LIKE 'no change is noted; last full pass %'"


@pytest.fixture(params=CALLS)
def live(request: pytest.FixtureRequest, project: Project, provider: Provider, vecmig: Vecmig) -> Project:
    """A project whose first tag has adopted the vectors of the documents; for each home."""
    prepare_adoption(project, provider, request.param, COUNT)
    vecmig("upgrade")
    return project


@pytest.fixture
def watch(live: Project, provider: Provider) -> Iterator[subprocess.Popen[str]]:
    """The service at work, which has nothing to do."""
    with live.running("sync", "--watch", "--every", "0.1") as process:
        wait_for(lambda: live.sql(IDLE) == [(1,)], process)
        provider.forget()
        yield process


def insert_in_two_steps(connection: psycopg.Connection[tuple[object, ...]], key: int) -> None:
    """Insert a record without its vector, and give it that before the commit."""
    connection.execute("INSERT INTO documents (id, title, body) VALUES (%s, %s, 'queued')", [key, f"title {key}"])
    connection.execute(
        "UPDATE documents SET embedding = %s::text::vector WHERE id = %s", [literal(f"title {key} queued"), key]
    )


def served(project: Project) -> bool:
    """Whether the live view has each record with the vector of the column, and each stamp is of its text."""
    return [project.sql(query) for query in (DIFFERENT, UNSTAMPED, ORPHANED)] == [[(0,)]] * 3


def test_what_the_application_writes_into_its_column_is_served(
    live: Project, provider: Provider, watch: subprocess.Popen[str]
) -> None:
    with psycopg.connect(live.database_url) as application:
        for work in (
            lambda: write(application, COUNT + 1, "new"),
            lambda: insert_in_two_steps(application, COUNT + 2),
            lambda: change_vector(application, 3),
            lambda: write(application, 5, "edited"),
            lambda: application.execute("DELETE FROM documents WHERE id = 7"),
        ):
            work()
            application.commit()
            wait_for(lambda: served(live), watch)
        write(application, COUNT + 3, "draft")
        application.execute("UPDATE documents SET draft = true WHERE id = %s", [COUNT + 3])
        application.commit()
        wait_for(lambda: live.sql("SELECT count(*) FROM vecmig.change") == [(0,)], watch)
        application.execute("UPDATE documents SET draft = false WHERE id = %s", [COUNT + 3])
        application.commit()
        wait_for(lambda: served(live), watch)
    shown = {key: ast.literal_eval(found) for key, found in live.sql("SELECT id, embedding::text FROM documents_live")}
    assert shown.keys() == {*range(1, COUNT + 4)} - {7}
    for key, text, length in (
        (COUNT + 1, f"title {COUNT + 1} new", 1.0),
        (COUNT + 2, f"title {COUNT + 2} queued", 1.0),
        (COUNT + 3, f"title {COUNT + 3} draft", 1.0),
        (3, "title 3 body of record 3 about subject3", 1.005),
        (5, "title 5 edited", 1.0),
    ):
        assert shown[key] == pytest.approx(list(vector(text, DIMS) * length), abs=1e-6)
    wait_for(lambda: live.sql("SELECT count(*) FROM vecmig.change") == [(0,)], watch)
    # counted, and looked at an hour after the last spot check
    wait_for(lambda: live.sql("SELECT (verified ->> 'taken_over')::int > 0 FROM vecmig.tag") == [(True,)], watch)
    assert provider.requests() == []
