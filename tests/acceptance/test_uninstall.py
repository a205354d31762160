"""``vecmig uninstall`` at the command line: all that vecmig made goes, and nothing else."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.cli import Vecmig, describe, documents_collection, local, make_documents, script, tag
from support.cli import write_hashing as write_models
from support.postgres import Postgres
from support.project import INI, Project
from support.terminal import in_terminal, plain

pytestmark = pytest.mark.long

A, B = tag("first", 16), tag("second", 32, chunk="60")
PRICED = {"price_per_million_tokens": 1000.0}
READER = "uninstall_reader"

#: What a team has before vecmig comes.
_TEAM = f"""
CREATE TABLE articles (id text COLLATE "C" PRIMARY KEY, body text) PARTITION BY RANGE (id);
CREATE TABLE articles_low PARTITION OF articles FOR VALUES FROM (MINVALUE) TO ('m');
CREATE TABLE articles_high PARTITION OF articles FOR VALUES FROM ('m') TO (MAXVALUE);
INSERT INTO articles SELECT chr(97 + i) || i, 'an article about ' || i FROM generate_series(0, 25) AS i;
CREATE TABLE posts (a int, b uuid, body text, PRIMARY KEY (a, b));
INSERT INTO posts SELECT i, gen_random_uuid(), 'a post about ' || i FROM generate_series(1, 20) AS i;
CREATE VIEW pages AS SELECT a AS id, body FROM posts;
CREATE TABLE articles_notes (id int);
COMMENT ON TABLE documents IS 'the team''s own';
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION touched();
ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
CREATE POLICY first_ten ON documents FOR SELECT TO {READER} USING (id <= 10);
GRANT SELECT ON documents TO {READER};
GRANT SELECT (a) ON posts TO {READER};
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {READER};
CREATE PUBLICATION everything FOR TABLE documents, posts"""
#: The catalogues that belong to a database, apart from statistics, and from what one session leaves for the next.
_CATALOGUES = """
SELECT oid::regclass::text FROM pg_class
WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r' AND NOT relisshared
  AND relname NOT IN ('pg_statistic', 'pg_statistic_ext_data', 'pg_attribute', 'pg_class', 'pg_sequence', 'pg_index')
ORDER BY 1"""
#: Of those whose rows change by themselves, what is known of each object.
_MORE = {
    "pg_class": "oid, relname, relnamespace, relowner, relkind, relrowsecurity, relacl, reloptions, relreplident",
    "pg_attribute": "attrelid, attnum, attname, atttypid, attnotnull, attacl",
    "pg_index": "indexrelid, indrelid, indisvalid",
}
_OF_SESSIONS = "r::text !~ '\\mpg_(toast_)?temp_'"


@pytest.fixture
def reader(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """A role of the team's."""
    connection.execute(f"CREATE ROLE {READER}")
    yield READER
    connection.execute(f"DROP OWNED BY {READER}; DROP ROLE {READER}")


def dumped(postgres: Postgres, project: Project, *options: str) -> str:
    """Give what pg_dump writes of the database."""
    program = Path(postgres.server.bin_path) / "pg_dump"
    done = subprocess.run(
        [program, "-d", project.database_url, *options], check=True, capture_output=True, text=True, timeout=120
    )
    # newer versions begin and end with a word of chance
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def state(project: Project) -> dict[str, list[str]]:
    """Give all that the catalogue has of the database: every row of it."""
    wanted = {name: "*" for (name,) in project.sql(_CATALOGUES)} | _MORE
    return {
        name: [
            row
            for (row,) in project.sql(
                f"SELECT r::text FROM (SELECT {columns} FROM {name}) r WHERE {_OF_SESSIONS} ORDER BY 1"
            )
        ]
        for name, columns in wanted.items()
    }


@pytest.fixture
def team(project: Project, reader: str) -> Project:
    """A database that a team has filled, before vecmig comes."""
    make_documents(project)
    for line in _TEAM.split(";\n"):
        project.sql(line)
    return project


def _describe(project: Project) -> None:
    write_models(project, 16, 32)
    recipes = {A: local(16) | PRICED, B: local(32) | {"chunk": {"size": 60, "unit": "characters"}}}
    articles = {"source": "public.articles", "key": ["id"], "text": "body", "tag": A}
    pages = {"source": "public.pages", "key": ["id"], "text": "body", "tag": A}
    posts = {"source": "public.posts", "key": ["a", "b"], "text": "body", "tag": A, "change_tracking": "scan"}
    found = {"documents": documents_collection(B), "articles": articles, "pages": pages, "posts": posts}
    describe(project, found, recipes)
    script(project, "aaaa", A)
    script(project, "bbbb", A, down="aaaa", collection="articles")
    script(project, "cccc", A, down="bbbb", collection="pages")
    script(project, "dddd", B, old=A, down="cccc")
    script(project, "eeee", A, down="dddd", collection="posts")


def _live_through(project: Project, vecmig: Vecmig, reader: str) -> None:
    """Use of vecmig what can be used."""
    _describe(project)
    vecmig("upgrade", "cccc")
    vecmig("upgrade", "dddd", "--until", "index")
    vecmig("route", "documents", "--shadow", B, "--ramp", "10")
    vecmig("eval", "--make", "known-item", "--size", "5", "--title", "title", "--collection", "documents")
    vecmig("eval", "known-item")
    vecmig("upgrade", "head")
    project.sql(f"GRANT SELECT ON documents_live TO {reader}")
    project.sql("UPDATE documents SET body = 'edited' WHERE id = 1")
    project.sql("DELETE FROM articles WHERE id = 'a0'")
    vecmig("sync")
    vecmig("downgrade", "cccc", "--no-hold")
    vecmig("upgrade", "head")
    vecmig("pause", "articles", "--reason", "lunch")
    vecmig("tune", "documents", "max-rate=100")
    vecmig("view", "detach", "documents")
    vecmig("view", "attach", "documents")
    vecmig("view", "detach", "articles")
    project.sql("ALTER TABLE documents ENABLE ALWAYS TRIGGER vecmig_documents_track")
    project.sql("DELETE FROM articles WHERE id = 'b1'")


@pytest.mark.parametrize("place", ["", "public", "embeddings"])
def test_the_database_is_as_it_was_before_vecmig(
    team: Project, vecmig: Vecmig, postgres: Postgres, reader: str, place: str
) -> None:
    team.ini.write_text(INI.format(database_url=team.database_url) + (f"vectors_schema = {place}\n" if place else ""))
    before, schema = state(team), dumped(postgres, team, "--schema-only")
    _live_through(team, vecmig, reader)
    assert state(team) != before
    data = dumped(postgres, team, "--data-only", "--schema=public", "--exclude-table=*_vectors*")
    shown = vecmig("uninstall", "--yes")
    assert state(team) == before
    assert dumped(postgres, team, "--schema-only") == schema
    assert dumped(postgres, team, "--data-only") == data
    assert "vecmig is uninstalled from " in shown.stdout
    assert vecmig("uninstall").stdout.startswith("Nothing to do: nothing that vecmig made is in ")


def test_it_says_what_goes_and_what_stays(team: Project, vecmig: Vecmig) -> None:
    _describe(team)
    vecmig("upgrade", "dddd")
    refused = vecmig("uninstall", "--collection", "documents", code=2)
    size = r"\d+ kB in vecmig\.documents_vectors_[0-9a-f]{8}"
    expected = rf"""goes: documents
  trigger           vecmig_documents_track on public\.documents
  trigger           vecmig_documents_track_truncate on public\.documents
  trigger           vecmig_documents_track_update on public\.documents
  trigger function  vecmig\.documents_track\(\)
  trigger function  vecmig\.documents_track_rest\(bigint,boolean\)
  live view         public\.documents_live
  search function   public\.documents_search\(public\.vector,integer,text\)
  view function     vecmig\.documents_pick\(text,public\.vector\)
  vectors           vecmig\.documents_vectors
  tag               {B}: 40 vectors of 40 records, {size}
  tag               {A}: 40 vectors of 40 records, {size}
  to get it back    embedding it has cost \$\d\.\d\d; a new start pays again
stays
  source     public\.documents, with all its rows and columns
  extension  vector
  files      vecmig\.ini and migrations
  ledger     vecmig's own tables, with the history
"""
    assert re.fullmatch(expected, refused.stdout), refused.stdout
    assert refused.stderr == (
        "There is no terminal on which the collection's name could be typed.\nNothing was changed.\n"
        "To uninstall without being asked, add --yes\n"
    )
    before = state(team)
    shown = vecmig("uninstall", "--dry-run").stdout
    assert "\ngoes: what is vecmig's own\n  ledger   " in shown
    assert "\n  schema   vecmig\nstays\n" in shown
    assert "That is not the database's name." in in_terminal(team, "uninstall", columns=80, typed="documents\n")
    assert state(team) == before

    name = team.sql("SELECT current_database()")[0][0]
    told = plain(in_terminal(team, "uninstall", columns=80, typed=f"{name}\n"))
    assert max(len(line) for line in told.splitlines() if line.startswith("  ")) <= 80
    assert f"vecmig is uninstalled from {name}; " in told
    assert vecmig("uninstall").stdout == f"Nothing to do: nothing that vecmig made is in {name}.\n"
    assert vecmig("check", code=4).stderr.startswith("Revisions are pending: aaaa, bbbb, cccc, dddd, eeee.")


def test_a_collection_begins_anew(team: Project, vecmig: Vecmig) -> None:
    _describe(team)
    vecmig("upgrade", "head")
    assert "documents is uninstalled; " in vecmig("uninstall", "--collection", "documents", "--yes").stdout
    again = vecmig("uninstall", "--collection", "documents").stdout
    assert again.startswith("Nothing to do: nothing of documents that vecmig made is in ")
    assert "This database has no collection docs." in vecmig("uninstall", "--collection", "docs", code=2).stderr
    assert "Revisions are pending: aaaa, dddd." in vecmig("check", code=4).stderr
    assert [row["revision"] for row in vecmig("plan", "--json").json] == ["aaaa", "dddd"]
    vecmig("audit")
    vecmig("upgrade", "head")
    assert vecmig("check").stdout == "Nothing is pending.\n"
    assert team.sql("SELECT count(*) FROM documents_live") == [(40,)]
