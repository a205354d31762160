"""Every piece of Python on docs/reading.md runs as it stands, on a table that its client has made, under two tags."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg
import pytest

from support import clients
from support.embedding import vector
from support.lab import Lab
from support.project import _environment
from support.source import ROOT

pytestmark = clients.needs_clients

#: A model that knows what a query means: what it answers can be said beforehand.
TAGS = ("wordllama@0.4/dim-64/chunk-none/norm-l2", "wordllama@0.4/dim-128/chunk-none/norm-l2")
RECIPES = {tag: {"provider": "wordllama", "dims": dims} for tag, dims in zip(TAGS, (64, 128), strict=True)}
#: The first one answers what the page asks for.
TITLES = {
    "Read a CSV file row by row": "io",
    "Open a connection to a server": "net",
    "Write bytes to a socket": "io",
    "Split a string at each comma": "text",
    "Sort a list of numbers": "text",
    "Roll a log file at midnight": "io",
}
ROWS = [(at, title, section) for at, (title, section) in enumerate(TITLES.items(), start=1)]

_SECTION = re.compile(r"^##+ (?P<title>.+?)\n(?P<text>.*?)(?=^##+ |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def pieces() -> dict[str, str]:
    """Return what the page has of Python, by its heading and number."""
    page = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
    return {
        f"{found['title']} {number}": block
        for found in _SECTION.finditer(page)
        for number, block in enumerate(_BLOCK.findall(found["text"]), start=1)
    }


# Tables by their clients -------------------------------------------------------------------------------------------

ARTICLES = {"name": "articles", "source": "articles", "key": ("id",), "text": "title"}
SECTION = {"live_columns": ["section"]}


def by_psycopg(lab: Lab) -> dict[str, Any]:
    """Make articles with psycopg."""
    from pgvector.psycopg import register_vector

    with psycopg.connect(lab.url) as connection:
        register_vector(connection)
        connection.execute(
            "CREATE TABLE articles (id bigint PRIMARY KEY, title text, section text, embedding vector(64))"
        )
        rows = [(*row, vector(row[1], 64)) for row in ROWS]
        connection.cursor().executemany("INSERT INTO articles VALUES (%s, %s, %s, %s)", rows)
    return ARTICLES | {"options": SECTION}


def by_asyncpg(lab: Lab) -> dict[str, Any]:
    """Make articles with asyncpg."""
    import asyncpg
    from pgvector.asyncpg import register_vector

    async def make() -> None:
        connection = await asyncpg.connect(lab.url)
        await register_vector(connection)
        await connection.execute(
            "CREATE TABLE articles (id bigint PRIMARY KEY, title text, section text, embedding vector(64))"
        )
        rows = [(*row, vector(row[1], 64)) for row in ROWS]
        await connection.executemany("INSERT INTO articles VALUES ($1, $2, $3, $4)", rows)
        await connection.close()

    asyncio.run(make())
    return ARTICLES | {"options": SECTION}


def by_sqlalchemy(lab: Lab) -> dict[str, Any]:
    """Make articles with a model of SQLAlchemy's."""
    from pgvector.sqlalchemy import VECTOR
    from sqlalchemy import BigInteger, Column, NullPool, Text, create_engine
    from sqlalchemy.orm import Session, declarative_base

    base = declarative_base()
    model = type(
        "Article",
        (base,),
        {
            "__tablename__": "articles",
            "id": Column(BigInteger, primary_key=True),
            "title": Column(Text),
            "section": Column(Text),
            "embedding": Column(VECTOR(64)),
        },
    )
    engine = create_engine(clients.with_driver(lab.url, "psycopg"), poolclass=NullPool)
    base.metadata.create_all(engine)
    with Session(engine) as session:
        for at, title, section in ROWS:
            session.add(model(id=at, title=title, section=section, embedding=vector(title, 64)))
        session.commit()
    return ARTICLES | {"options": SECTION}


#: What a project of Django's has before any of its code runs.
DJANGO = """
import os

import django
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

told = conninfo_to_dict(os.environ["DATABASE_URL"])
database = {"NAME": told["dbname"], "USER": told["user"], "HOST": told["host"]}
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **database}})
django.setup()
"""
_MAKE = """
from django.db import connection, models
from pgvector.django import VectorField
from support.clients import vector

class Article(models.Model):
    id = models.BigIntegerField(primary_key=True)
    title = models.TextField()
    section = models.TextField()
    embedding = VectorField(dimensions=64)

    class Meta:
        db_table = "articles"
        app_label = "search"

with connection.schema_editor() as editor:
    editor.create_model(Article)
for at, title, section in %r:
    Article.objects.create(id=at, title=title, section=section, embedding=vector(title, 64))
"""


def by_django(lab: Lab) -> dict[str, Any]:
    """Make articles with a model of Django's."""
    run(lab, DJANGO + _MAKE % ROWS, lab.url)
    return ARTICLES | {"options": SECTION}


def by_pgvector(lab: Lab) -> dict[str, Any]:
    """Make a collection of LangChain's PGVector."""
    with clients.langchain_pgvector(lab.url) as store:
        store.add_texts(list(TITLES), [{"section": s} for s in TITLES.values()], [f"handbook-{at}" for at, *_ in ROWS])
        where = f"collection_id = '{clients.collection_id(store)}'"
    return handbook(source="langchain_pg_embedding", key=("id",), text="document", options={"where": where})


def by_store(lab: Lab) -> dict[str, Any]:
    """Make a table of LangChain's PGVectorStore."""
    with clients.langchain_store(lab.url, "handbook") as store:
        store.add_texts(
            list(TITLES), [{"section": s} for s in TITLES.values()], [clients.store_id(at) for at, *_ in ROWS]
        )
    options = {"live_columns": ["langchain_metadata", "section"]}
    return handbook(source="handbook", key=("langchain_id",), text="content", options=options)


def by_llama_index(lab: Lab) -> dict[str, Any]:
    """Make a table of LlamaIndex's."""
    from llama_index.core.schema import TextNode

    with clients.llama_store(lab.url) as store:
        store.add(
            [
                TextNode(
                    id_=f"handbook-{at}",
                    text=title,
                    metadata={"section": section},
                    embedding=clients.Embeddings().embed_query(title),
                )
                for at, title, section in ROWS
            ]
        )
    return handbook(source="data_handbook", key=("id",), text="text")


def handbook(**more: Any) -> dict[str, Any]:
    """Return what a lab is told of the collection handbook."""
    return {"name": "handbook", **more}


# The page ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """How a piece is run."""

    made: Callable[[Lab], dict[str, Any]]
    #: What a line of its answer says of the first title.
    printed: str
    #: SQLAlchemy's name for the driver, where ``DATABASE_URL`` has one.
    driver: str = ""
    before: str = ""


FIRST = re.escape(ROWS[0][1])
PIECES = {
    "From Python 1": Piece(by_psycopg, rf"\(1,\) {{tag}} 0 0\.\d+ {FIRST}"),
    "From Python 2": Piece(by_psycopg, rf"{{tag}}\n\(1,\) {FIRST}"),
    "From any language 1": Piece(by_psycopg, r"1 0\.\d+"),
    "From any language 2": Piece(by_asyncpg, r"1 0\.\d+"),
    "From an ORM 1": Piece(by_sqlalchemy, f"1 {FIRST}", driver="psycopg"),
    "From an ORM 2": Piece(by_django, rf"1 {FIRST} 0\.\d+", before=DJANGO),
    "From LangChain 1": Piece(by_pgvector, r"handbook-1 io 0\.\d+"),
    "From LangChain 2": Piece(by_pgvector, r"handbook-1 io"),
    "PGVectorStore over the live view 1": Piece(by_store, f"{clients.store_id(1)} io", driver="psycopg"),
    "From LlamaIndex 1": Piece(by_llama_index, r"handbook-1 0\.\d+ io"),
    "From LlamaIndex 2": Piece(by_llama_index, r"handbook-1 io"),
}


def run(lab: Lab, code: str, url: str) -> str:
    """Run Python in the directory of a project; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=lab.path,
        env=_environment() | {"DATABASE_URL": url, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_piece_is_left_out() -> None:
    assert list(PIECES) == list(pieces())


@pytest.mark.parametrize("name", PIECES)
def test_a_piece_of_the_page_runs_as_it_stands(bare_lab: Lab, name: str) -> None:
    piece = PIECES[name]
    lab = bare_lab.write(chain=TAGS, recipes=RECIPES, **piece.made(bare_lab))
    url = clients.with_driver(lab.url, piece.driver) if piece.driver else lab.url
    for revision, tag in zip(("r1", "r2"), TAGS, strict=True):
        lab.upgrade(revision)
        printed = run(lab, piece.before + pieces()[name], url)
        assert re.match(piece.printed.replace("{tag}", re.escape(tag)), printed), printed
        assert len(printed.splitlines()) in (3, 4), "k is 3, and one piece prints the tag"
