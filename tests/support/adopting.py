"""A source that has vectors already, as its application made them, and a first revision that adopts them."""

from __future__ import annotations

from pathlib import Path

import psycopg

from support.cluster import dump
from support.embedding import vector
from support.lab import Lab
from support.postgres import Postgres

#: The text of a record, as a lab's collection has it.
TEXT = "title || E'\\n\\n' || body"
_EMBEDS = "    m.backfill()"


def literal(text: str, dims: int = 64, *, more: int = 0) -> str:
    """Give the vector that the model makes of a text as pgvector writes it, with so many zeros behind it."""
    return str([*(float(x) for x in vector(text, dims)), *[0.0] * more])


def give_vectors(lab: Lab, type_: str = "vector(64)", *, dims: int = 64, more: int = 0, where: str = "true") -> None:
    """Let the application have a vector of each record in a column ``embedding``, of which vecmig knows nothing."""
    with psycopg.connect(lab.url, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {lab.source} ADD COLUMN IF NOT EXISTS embedding {type_}")
        rows = connection.execute(f"SELECT id, {TEXT} FROM {lab.source} WHERE {where}").fetchall()
        with connection.cursor() as cursor:
            cast = "real[]" if type_ == "real[]" else "text"
            cursor.executemany(
                f"UPDATE {lab.source} SET embedding = %s::{cast}::{type_} WHERE id = %s",
                [(_written(literal(text, dims, more=more), type_), key) for key, text in rows],
            )


def _written(text: str, type_: str) -> str:
    return text.replace("[", "{").replace("]", "}") if type_ == "real[]" else text


def write_one(lab: Lab, key: int, body: str, *, vector_of: str | None = None) -> None:
    """Insert or edit a record as the application does: its text and, of a text that is given, its vector."""
    lab.sql(
        f"INSERT INTO {lab.source} (id, title, body) VALUES (%s, %s, %s) "
        "ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        key,
        f"title {key}",
        body,
    )
    if vector_of is not None:
        lab.sql(f"UPDATE {lab.source} SET embedding = %s::text::vector WHERE id = %s", literal(vector_of), key)


def kept_as_found(lab: Lab, postgres: Postgres, file: Path) -> list[str]:
    """Dump the source, schema and data, as its own tools see it; rows lie about in any order."""
    dump(postgres, lab.url.split("?", maxsplit=1)[0].rpartition("/")[2], file, f"--table={lab.source}")
    # pg_dump's own secret is another one each time
    return sorted(line for line in file.read_text().splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


#: What a live view shows of the vectors, before there is one.
BEFORE_A_VIEW = (
    "(SELECT v.id, coalesce(v.embedding, d.embedding) AS embedding "
    "FROM documents_vectors v JOIN documents d USING (id)) AS shown"
)


def lies(lab: Lab, shown_by: str = "documents_live") -> list[int]:
    """Return the records whose stamp is of their text now, and whose vector is that of another."""
    rows = lab.sql(
        f"SELECT id, {TEXT}, l.vector FROM {lab.source} "
        f"JOIN (SELECT id, embedding::real[] AS vector FROM {shown_by}) l USING (id)"
    )
    shown = {key: (text, shows) for key, text, shows in rows}
    hashes = dict(lab.sql("SELECT id, source_hash::text FROM documents_vectors"))
    found = []
    for key, (text, shows) in shown.items():
        expected = [float(part) for part in literal(text).strip("[]").split(",")]
        fresh = lab.sql(
            "SELECT encode(substr(sha256(convert_to(%s, 'UTF8')), 1, 16), 'hex')::uuid::text = %s",
            text,
            hashes.get(key),
        )
        if fresh == [(True,)] and max(abs(a - b) for a, b in zip(shows, expected, strict=True)) > 1e-5:
            found.append(key)
    return found


def adopts(lab: Lab, call: str) -> Path:
    """Let the first revision adopt; return its script."""
    script = lab.path / "migrations" / "versions" / "r1.py"
    text = script.read_text()
    assert _EMBEDS in text
    script.write_text(text.replace(_EMBEDS, f"    {call}"))
    return script
