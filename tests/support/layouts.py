"""Tables with vectors as libraries and products make them, by their DDL, and rows in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg

#: An array of length 1 with {n} elements, another one for each ``i``.
UNIT: Final = (
    "(SELECT array_agg(cos(i * j) / l ORDER BY j)::real[] FROM generate_series(1, {n}) j, "
    "(SELECT sqrt(sum(cos(i * k) ^ 2)) AS l FROM generate_series(1, {n}) k) m)"
)

LANGCHAIN: Final = """
CREATE TABLE langchain_pg_collection (uuid uuid PRIMARY KEY, name varchar NOT NULL UNIQUE, cmetadata json);
CREATE TABLE langchain_pg_embedding (
    id varchar PRIMARY KEY, collection_id uuid REFERENCES langchain_pg_collection (uuid) ON DELETE CASCADE,
    embedding vector, document varchar, cmetadata jsonb);
CREATE INDEX ix_cmetadata_gin ON langchain_pg_embedding USING gin (cmetadata jsonb_path_ops)
"""
PGVECTORSTORE: Final = """
CREATE TABLE "Handbook" (langchain_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), content text NOT NULL,
    embedding vector({n}) NOT NULL, langchain_metadata json);
CREATE INDEX handbook_hnsw ON "Handbook" USING hnsw (embedding vector_cosine_ops)
"""
LLAMAINDEX: Final = """
CREATE TABLE data_handbook (id bigserial PRIMARY KEY, text varchar NOT NULL, metadata_ json, node_id varchar,
    embedding vector({n}));
CREATE INDEX data_handbook_idx_1 ON data_handbook ((metadata_ ->> 'ref_doc_id'))
"""
PGAI: Final = """
CREATE TABLE blog (id int PRIMARY KEY, title text, body text);
CREATE TABLE blog_embedding_store (embedding_uuid uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    id int NOT NULL REFERENCES blog ON DELETE CASCADE, chunk_seq int NOT NULL, chunk text NOT NULL,
    embedding vector({n}) NOT NULL, UNIQUE (id, chunk_seq));
CREATE VIEW blog_embedding AS SELECT s.*, b.title FROM blog_embedding_store s JOIN blog b ON b.id = s.id
"""
HAYSTACK: Final = """
CREATE TABLE haystack_documents (id varchar(128) PRIMARY KEY, embedding vector({n}), content text, blob_data bytea,
    blob_meta jsonb, blob_mime_type varchar(255), meta jsonb)
"""
MEM0: Final = """
CREATE TABLE mem0 (id uuid PRIMARY KEY, vector vector({n}), payload jsonb);
CREATE INDEX mem0_hnsw_idx ON mem0 USING hnsw (vector vector_cosine_ops)
"""
DIFY: Final = """
CREATE TABLE {name} (id uuid PRIMARY KEY, text text NOT NULL, meta jsonb NOT NULL, embedding vector({n}) NOT NULL)
"""
OPEN_WEBUI: Final = """
CREATE TABLE document_chunk (id text PRIMARY KEY, vector vector({n}), collection_name text NOT NULL, text text,
    vmetadata jsonb);
CREATE INDEX idx_document_chunk_vector ON document_chunk USING hnsw (vector vector_cosine_ops)
"""
SUPABASE: Final = """
CREATE TABLE documents (id bigserial PRIMARY KEY, content text, metadata jsonb, embedding extensions.vector({n}));
ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION match_documents(query_embedding extensions.vector({n}), match_count int DEFAULT NULL,
    filter jsonb DEFAULT '{{}}') RETURNS TABLE (id bigint, content text, metadata jsonb, similarity float)
LANGUAGE plpgsql SET search_path = public, extensions AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT id, content, metadata, 1 - (documents.embedding <=> query_embedding) AS similarity
    FROM documents WHERE metadata @> filter ORDER BY documents.embedding <=> query_embedding LIMIT match_count;
END;
$$;
CREATE INDEX ON documents USING ivfflat (embedding extensions.vector_ip_ops) WITH (lists = 1)
"""


def make(connection: psycopg.Connection[Any], ddl: str, **names: Any) -> None:
    """Run one layout's DDL."""
    connection.execute(ddl.format(**{"n": 64, **names}).encode())


def fill(
    connection: psycopg.Connection[Any],
    table: str,
    columns: Sequence[str],
    values: Sequence[str],
    count: int = 12,
    *,
    start: int = 1,
    dims: int = 64,
) -> None:
    """Insert rows: ``values`` are SQL in which ``i`` is the number of the row and ``{v}`` a unit vector of its own."""
    listed = ", ".join(value.replace("{v}", UNIT.format(n=dims)) for value in values)
    rows = f"generate_series({start}, {start + count - 1}) i"
    connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {listed} FROM {rows}".encode())
