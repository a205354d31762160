"""``public.documents`` with a vector of each record in a column, and how an application writes there."""

from __future__ import annotations

import psycopg

from support.cli import describe, documents_collection, make_documents, script, tag
from support.project import Project
from support.provider import Provider, vector
from support.stamps import text_hash

DIMS = 8
TAG = tag("fake", DIMS)
#: What a first revision that adopts says in place of ``m.backfill()``, by the home of its vectors.
CALLS = {"partition": 'm.adopt("embedding")', "column": 'm.adopt("embedding", home="column")'}
#: Records whose vector in the live view is not that of the column, or that only one of them has.
DIFFERENT = """
SELECT count(*) FROM documents d FULL JOIN documents_live l USING (id)
WHERE l.embedding::text IS DISTINCT FROM d.embedding::text
"""
ORPHANED = "SELECT count(*) FROM documents_vectors v WHERE NOT EXISTS (SELECT FROM documents d WHERE d.id = v.id)"
#: Records whose stamp is not of the text that they have now, or that have none.
UNSTAMPED = f"""
SELECT count(*) FROM documents d
WHERE NOT EXISTS (SELECT FROM documents_vectors v
                  WHERE v.id = d.id AND v.source_hash = {text_hash("d.title || ' ' || d.body")})
"""


def literal(text: str, length: float = 1.0) -> str:
    """Write the provider's vector of a text, of another length if wanted."""
    return str([float(x) * length for x in vector(text, DIMS)])


def prepare_adoption(project: Project, provider: Provider, home: str, count: int, *, gate: str = "Gate()") -> None:
    """Write the documents, the vector of each, and a first revision that adopts these; a draft is no record."""
    make_documents(project, count)
    project.sql(f"ALTER TABLE documents ADD COLUMN embedding vector({DIMS}), ADD COLUMN draft bool DEFAULT false")
    rows = project.sql("SELECT id, title || ' ' || body FROM documents")
    with psycopg.connect(project.database_url) as connection:
        connection.execute(f"CREATE TEMPORARY TABLE made (id bigint, embedding vector({DIMS}))")
        with connection.cursor().copy("COPY made FROM STDIN") as copy:
            for key, text in rows:
                copy.write_row((key, literal(text)))
        connection.execute("UPDATE documents d SET embedding = m.embedding FROM made m WHERE m.id = d.id")
    recipe = {"provider": "openai", "dims": DIMS, "base_url": provider.url}
    describe(project, {"documents": documents_collection(TAG) | {"where": "NOT draft"}}, {TAG: recipe})
    script(project, "aaaa", TAG, gate=gate, backfill=CALLS[home])


def write(connection: psycopg.Connection[tuple[object, ...]], key: int, body: str) -> None:
    """Insert or edit a record as the application does: its text and the vector of that, in one statement."""
    title = f"title {key}"
    connection.execute(
        "INSERT INTO documents (id, title, body, embedding) VALUES (%s, %s, %s, %s::text::vector) ON CONFLICT (id) "
        "DO UPDATE SET title = excluded.title, body = excluded.body, embedding = excluded.embedding",
        [key, title, body, literal(f"{title} {body}")],
    )


def change_vector(connection: psycopg.Connection[tuple[object, ...]], key: int) -> None:
    """Put another vector into the column, whose length is another one; the text stays."""
    row = connection.execute("SELECT title || ' ' || body FROM documents WHERE id = %s", [key]).fetchone()
    assert row is not None
    connection.execute(
        "UPDATE documents SET embedding = %s::text::vector WHERE id = %s", [literal(str(row[0]), 1.005), key]
    )
