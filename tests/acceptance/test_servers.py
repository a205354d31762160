"""A migration from the first tag to the uninstall, on every PostgreSQL and pgvector that the tests have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.cli import Vecmig
from support.cluster import running_cluster
from support.older_postgres import VERSIONS
from support.postgres import Postgres
from support.project import INI, Project
from support.source import ROOT

SMALL = "wordllama@0.4/dim-64/chunk-none/norm-l2"
LARGE = "wordllama@0.4/dim-256/chunk-none/norm-l2"
COLLECTIONS = """\
collections:
  articles:
    source: public.articles
    key: [id]
    text: "title || E'\\\\n\\\\n' || coalesce(body, '')"
    tag: {tag}

tags:
  wordllama@0.4/dim-64/chunk-none/norm-l2: {{ provider: wordllama, dims: 64 }}
  wordllama@0.4/dim-256/chunk-none/norm-l2: {{ provider: wordllama, dims: 256 }}
"""
QUESTION = "read a csv file line by line"


#: The folder with the programs of one more PostgreSQL to try, one that has pgvector.
ANOTHER = [Path(place) for place in [os.environ.get("ANOTHER_POSTGRES")] if place]


@pytest.fixture(params=["older wheel", "other of the wheel", "usual", *(["another"] if ANOTHER else [])])
def server(request: pytest.FixtureRequest, pgserver: Any) -> Iterator[Postgres]:
    """A server of each kind that there is."""
    versions, usual = pgserver.utils.POSTGRES_VERSIONS, pgserver.utils.TARGET_POSTGRES_VERSION
    match request.param:
        case "older wheel":
            yield request.getfixturevalue("older_postgres")
        case "usual":
            yield request.getfixturevalue("postgres")
        case which:
            others = [Path(place) for version, place in versions.items() if version != usual]
            places = ANOTHER if which == "another" else others
            if not places:
                pytest.skip("the installed wheel has one PostgreSQL only")
            with running_cluster(places[0], pgserver) as running:
                yield running


@pytest.fixture
def database_url(server: Postgres) -> Iterator[str]:
    """URL of a fresh database of that server."""
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Project:
    """An empty directory, and a database with the table of the story."""
    made = Project(tmp_path / "embeddings", database_url)
    made.path.mkdir()
    made.load_documents()
    made.sql("ALTER TABLE documents RENAME TO articles")
    return made


def test_the_page_of_limits_says_on_what_it_was_run(older_postgres: Postgres) -> None:
    with psycopg.connect(older_postgres.url(older_postgres.template)) as connection:
        found = connection.execute(
            "SELECT current_setting('server_version'), extversion FROM pg_extension WHERE extname = 'vector'"
        ).fetchall()
    assert found == [VERSIONS]
    assert "{} with pgvector {}".format(*VERSIONS) in " ".join((ROOT / "docs" / "limits.md").read_text().split())


def _live(vecmig: Vecmig) -> str | None:
    (collection,) = vecmig("status", "--json").json["collections"]
    tag: str | None = collection["live_tag"]
    return tag


def test_the_full_story(project: Project, vecmig: Vecmig) -> None:
    _begin(project, vecmig)
    _move(project, vecmig)
    _read(project)
    _keep_fresh(project, vecmig)
    _retire(project, vecmig)
    _leave(project, vecmig)


def _begin(project: Project, vecmig: Vecmig) -> None:
    """A project and its first tag."""
    assert vecmig("init").stderr.startswith("Next: edit database_url in vecmig.ini")
    project.ini.write_text(INI.format(database_url=project.database_url))
    project.collections.write_text(COLLECTIONS.format(tag=SMALL))
    assert vecmig("revision", "-m", "first tag").stderr.endswith("Next: vecmig upgrade head\n")
    done = vecmig("upgrade", "head")
    steps = [line.split()[0] for line in done.stderr.splitlines() if line.startswith("  ")]
    assert steps == ["expand", "backfill", "index", "cutover"]
    found = vecmig("search", "articles", QUESTION, "-k", "3")
    assert found.stderr == f"tag {SMALL}\n"
    assert len(found.stdout.splitlines()) == 4


def _move(project: Project, vecmig: Vecmig) -> None:
    """Half a backfill, a gate that refuses, there, back, and there again."""
    project.collections.write_text(COLLECTIONS.format(tag=LARGE))
    vecmig("revision", "-m", "64 to 256 dimensions")
    vecmig("upgrade", "head", "--until", "expand")
    assert vecmig("backfill", "--limit", "100").stdout == "articles: 100 of 300 records fresh, 33.33 %\n"
    refused = vecmig("gate", code=3)
    assert refused.stderr == (
        "The gate of articles refuses: coverage, freshness, unexplained, index, index used.\n"
        "Run: vecmig backfill\nRun: vecmig upgrade head --until index\n"
    )
    assert _live(vecmig) == SMALL
    vecmig("upgrade", "head")
    assert _live(vecmig) == LARGE
    assert "no vector was touched" in vecmig("downgrade", "-1", "--no-hold").stderr
    assert _live(vecmig) == SMALL
    assert "backfill  0 records embedded; 300 of 300 fresh" in vecmig("upgrade", "head").stderr
    assert _live(vecmig) == LARGE


def _read(project: Project) -> None:
    """The view and the function; with an index scan on the view."""
    ((key, vector),) = project.sql("SELECT id, embedding::text FROM articles_live ORDER BY id LIMIT 1")
    assert project.sql("SELECT id FROM articles_search(%s::vector, 1, %s)", vector, LARGE) == [(key,)]
    with pytest.raises(psycopg.Error, match="dim-64"):
        project.sql("SELECT id FROM articles_search(%s::vector, 1, %s)", vector, SMALL)
    nearest = "SELECT id, title FROM articles_live ORDER BY embedding <=> %s::vector LIMIT 1"
    assert project.sql(nearest, vector)[0][0] == key


def _keep_fresh(project: Project, vecmig: Vecmig) -> None:
    """An edited, a new and a deleted row."""
    project.sql("UPDATE articles SET body = 'edited' WHERE id = (SELECT min(id) FROM articles)")
    project.sql("INSERT INTO articles SELECT max(id) + 1, 'new', 'record' FROM articles")
    project.sql("DELETE FROM articles WHERE id = (SELECT min(id) + 1 FROM articles)")
    (collection,) = vecmig("status", "--json").json["collections"]
    found = {tag["tag"]: (tag["fresh"], tag["stale"], tag["missing"]) for tag in collection["tags"]}
    assert found == dict.fromkeys((SMALL, LARGE), (298, 1, 1))
    assert vecmig("status", "--check", code=4).stderr == "Something is pending.\nRun: vecmig sync\n"
    assert sorted(vecmig("sync").stdout.splitlines()) == sorted(
        f"articles, {tag}: 300 of 300 records fresh, 100 %" for tag in (SMALL, LARGE)
    )
    vecmig("status", "--check")


def _retire(project: Project, vecmig: Vecmig) -> None:
    """The old vectors go when trust is earned."""
    refused = vecmig("retire", "articles", SMALL, "--yes", code=3)
    assert f"{LARGE} has not earned the trust yet that lets {SMALL} go" in refused.stderr
    (latest,) = (path for path in project.versions if path.name.endswith("_64_to_256_dimensions.py"))
    latest.write_text(f"{latest.read_text()}\nfrom vecmig import Trust\n\ntrust = Trust(days=0, eval_days=0)\n")
    assert f"{SMALL} is retired" in vecmig("retire", "articles", SMALL, "--yes").stdout
    assert vecmig("audit").stdout == "No findings (1 collection, 1 tag)\n"
    assert vecmig("search", "articles", QUESTION, "-k", "3").stderr == f"tag {LARGE}\n"


def _leave(project: Project, vecmig: Vecmig) -> None:
    """After the story: nothing of vecmig's is left, and the table is as it was."""
    assert "vecmig is uninstalled from " in vecmig("uninstall", "--yes").stdout
    others = "relnamespace::regnamespace::text !~ '^(pg_|information_schema)'"
    assert project.sql(f"SELECT relname FROM pg_class WHERE relkind <> 'i' AND {others}") == [("articles",)]
    assert project.sql("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)]
    assert project.sql("SELECT to_regproc('articles_search'), to_regnamespace('vecmig')") == [(None, None)]
    assert project.sql("SELECT count(*) FROM articles") == [(300,)]
