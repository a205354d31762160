"""Tables of other tools, by their DDL, are adopted, migrated, read by the one change of docs/adopt.md, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest

from support.adopting import literal
from support.embedding import Model
from support.lab import Lab
from support.source import ROOT
from support.story import COUNT, HOMES, Ask, Client, Reading, tell_the_story, text_of
from vecmig.config.collections import load_collections
from vecmig.model.collection import Collection
from vecmig.reader import Reader


@dataclass(frozen=True)
class Table:
    """A table as its tool makes it, and what is written there for a document."""

    ddl: str
    table: str
    key: str
    #: The column of the vectors.
    column: str
    #: The statement that adds a document or gives it another text: id, text and vector.
    write: str
    text: str
    #: The type of the key: made of a number by ``id_of``.
    uuid: bool = False
    expression: str = "embedding"
    #: Zeros behind each vector.
    more: int = 0
    options: dict[str, Any] = field(default_factory=dict)


def id_of(table: Table, number: int) -> str:
    """Return the key of a document."""
    return f"00000000-0000-4000-8000-{number:012}" if table.uuid else str(number)


SUPABASE = Table(
    ddl="""
    CREATE TABLE documents (id bigserial PRIMARY KEY, content text, metadata jsonb, embedding extensions.vector(64));
    CREATE FUNCTION match_documents(
      query_embedding extensions.vector(64), match_count int DEFAULT NULL, filter jsonb DEFAULT '{}'
    )
    RETURNS TABLE (id bigint, content text, metadata jsonb, similarity float) LANGUAGE plpgsql AS $$
    #variable_conflict use_column
    BEGIN
      RETURN QUERY SELECT id, content, metadata, 1 - (documents.embedding OPERATOR(extensions.<=>) query_embedding)
      FROM documents WHERE metadata @> filter
      ORDER BY documents.embedding OPERATOR(extensions.<=>) query_embedding LIMIT match_count;
    END $$
    """,
    table="documents",
    key="id",
    column="embedding",
    text="content",
    write='INSERT INTO documents (id, content, metadata, embedding) VALUES (%s, %s, \'{"lang": "en"}\', %s) '
    "ON CONFLICT (id) DO UPDATE SET content = excluded.content, embedding = excluded.embedding",
    options={"live_columns": ["metadata"]},
)
PGAI = Table(
    ddl="CREATE TABLE blog_embedding_store (embedding_uuid uuid PRIMARY KEY DEFAULT gen_random_uuid(), "
    "id bigint NOT NULL, chunk_seq int NOT NULL, chunk text NOT NULL, embedding vector(64) NOT NULL, "
    "UNIQUE (id, chunk_seq))",
    table="blog_embedding_store",
    key="embedding_uuid",
    uuid=True,
    column="embedding",
    text="chunk",
    write="INSERT INTO blog_embedding_store (embedding_uuid, id, chunk_seq, chunk, embedding) "
    "SELECT k::uuid, right(k, 12)::bigint, 0, t, v::vector FROM (VALUES (%s, %s, %s)) AS x (k, t, v) "
    "ON CONFLICT (embedding_uuid) DO UPDATE SET chunk = excluded.chunk, embedding = excluded.embedding",
)
HAYSTACK = Table(
    ddl="CREATE TABLE haystack_documents (id varchar(128) PRIMARY KEY, embedding vector(64), content text, "
    "blob_data bytea, blob_meta jsonb, blob_mime_type varchar(255), meta jsonb)",
    table="haystack_documents",
    key="id",
    column="embedding",
    text="content",
    write="INSERT INTO haystack_documents (id, content, embedding) VALUES (%s, %s, %s) "
    "ON CONFLICT (id) DO UPDATE SET content = excluded.content, embedding = excluded.embedding",
)
MEM0 = Table(
    ddl="CREATE TABLE memories (id uuid PRIMARY KEY, vector vector(64), payload jsonb)",
    table="memories",
    key="id",
    uuid=True,
    column="vector",
    text="payload ->> 'data'",
    expression="vector",
    write="INSERT INTO memories (id, payload, vector) VALUES (%s, jsonb_build_object('data', %s::text), %s) "
    "ON CONFLICT (id) DO UPDATE SET payload = excluded.payload, vector = excluded.vector",
)
DIFY = Table(
    ddl='CREATE TABLE "embedding_vector_index_7f_node" (id uuid PRIMARY KEY, text text NOT NULL, meta jsonb NOT NULL, '
    "embedding vector(64) NOT NULL)",
    table='"embedding_vector_index_7f_node"',
    key="id",
    uuid=True,
    column="embedding",
    text="text",
    write="INSERT INTO embedding_vector_index_7f_node (id, text, meta, embedding) VALUES (%s, %s, '{}', %s) "
    "ON CONFLICT (id) DO UPDATE SET text = excluded.text, embedding = excluded.embedding",
)
OPEN_WEBUI = Table(
    ddl="CREATE TABLE document_chunk (id text PRIMARY KEY, vector vector(96), collection_name text NOT NULL, "
    "text text, vmetadata jsonb)",
    table="document_chunk",
    key="id",
    column="vector",
    text="text",
    expression="subvector(vector, 1, 64)",
    more=32,
    write="INSERT INTO document_chunk (id, text, vector, collection_name) VALUES (%s, %s, %s, 'knowledge') "
    "ON CONFLICT (id) DO UPDATE SET text = excluded.text, vector = excluded.vector",
)
TABLES = {"pgai": PGAI, "Haystack": HAYSTACK, "Mem0": MEM0, "Dify": DIFY, "Open WebUI": OPEN_WEBUI}


def collections_of_the_page() -> dict[str, Collection]:
    """Return the collection that docs/adopt.md shows, by its heading."""
    page = (ROOT / "docs" / "adopt.md").read_text(encoding="utf-8")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "collections.yaml"
        found = {}
        for section in page.split("\n## ")[1:]:
            heading, _, text = section.partition("\n")
            for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
                path.write_text(block, encoding="utf-8")
                # several tables of a kind are alike
                first, *others = load_collections(path).collections.values()
                assert all((one.key, one.text) == (first.key, first.text) for one in others)
                found[heading] = first
    return found


def test_the_page_shows_the_collections_that_are_tested() -> None:
    shown = collections_of_the_page()
    tested = TABLES | {"Supabase": SUPABASE}
    assert {name: (shown[name].key, shown[name].text) for name in tested} == {
        name: ((table.key,), table.text) for name, table in tested.items()
    }
    others = {
        "LangChain: PGVector": (("id",), "document"),
        "LangChain: PGVectorStore": (("langchain_id",), "content"),
        "LlamaIndex": (("id",), "text"),
        "A table of your own: SQLAlchemy, Django": (("id",), "body"),
    }
    assert {name: (shown[name].key, shown[name].text) for name in shown.keys() - tested.keys()} == others


def client_of(url: str, table: Table, operator: str = "<=>") -> Client:
    """Write a table as its tool does."""

    def run(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def write(id_: int, number: int) -> None:
        run(table.write, id_of(table, id_), text_of(number), literal(text_of(number), more=table.more))

    def find(number: int) -> str:
        nearest = f"SELECT {table.key} FROM {table.table} ORDER BY {table.column} {operator} %s LIMIT 1"
        return str(run(nearest, literal(text_of(number), more=table.more))[0][0])

    return Client(
        add=lambda number: write(number, number),
        edit=write,
        delete=lambda number: run(f"DELETE FROM {table.table} WHERE {table.key} = %s", id_of(table, number)),
        find=find,
        id_of=lambda number: id_of(table, number),
    )


def asking(lab: Lab, statement: str) -> Reading:
    """Ask by a statement that takes a vector and perhaps the tag that made it."""

    @contextmanager
    def reading(reader: Reader) -> Iterator[Ask]:
        def ask(number: int) -> str:
            tag, vector = reader.embed(lab.name, text_of(number))
            values = {"tag": tag, "vector": str([float(x) for x in vector])}
            with psycopg.connect(lab.url) as connection:
                return str(connection.execute(statement, values).fetchall()[0][0])

        yield ask

    return reading


def filled(bare_lab: Lab, table: Table, operator: str = "<=>", *, name: str = "corpus") -> tuple[Lab, Client]:
    """Make a table and its documents."""
    bare_lab.sql(table.ddl)
    client = client_of(bare_lab.url, table, operator)
    for number in range(1, COUNT + 1):
        client.add(number)
    lab = bare_lab.write(name=name, source=table.table, key=(table.key,), text=table.text, options=table.options)
    return lab, client


@pytest.mark.parametrize(
    ("tool", "home"),
    # what is cut out of a column is no column
    [(tool, home) for tool in TABLES for home in HOMES if (tool, home) != ("Open WebUI", "column")],
)
def test_the_live_view_is_read_in_place_of_the_table(bare_lab: Lab, model: Model, tool: str, home: str) -> None:
    table = TABLES[tool]
    lab, client = filled(bare_lab, table)
    nearest = f"SELECT {table.key} FROM corpus_live WHERE tag = %(tag)s ORDER BY embedding <=> %(vector)s LIMIT 1"
    tell_the_story(lab, model, client, asking(lab, nearest), home=home, expression=table.expression)


@pytest.mark.parametrize("home", HOMES)
def test_supabase_goes_on_calling_match_documents(bare_lab: Lab, model: Model, home: str) -> None:
    bare_lab.sql("CREATE SCHEMA extensions; ALTER EXTENSION vector SET SCHEMA extensions")
    lab, client = filled(bare_lab, SUPABASE, "OPERATOR(extensions.<=>)", name="documents")
    before = lab.sql("SELECT id FROM match_documents(%s::text::extensions.vector, 1)", literal(text_of(7)))
    assert before == [(7,)]
    page = (ROOT / "docs" / "adopt.md").read_text(encoding="utf-8")
    (match_live,) = re.findall(
        r"^```sql\n(CREATE OR REPLACE FUNCTION match_documents.*?)^```$", page, re.MULTILINE | re.DOTALL
    )

    @contextmanager
    def reading(reader: Reader) -> Iterator[Ask]:
        lab.sql(match_live)
        calls = 'SELECT id FROM match_documents(%(vector)s::text::extensions.vector, 1, \'{"lang": "en"}\')'
        with asking(lab, calls)(reader) as ask:
            yield ask

    tell_the_story(lab, model, client, reading, home=home)
