"""Tables that real clients make and fill: LangChain's two stores and LlamaIndex's, each with the toy model's vectors.

Their packages are imported where they are used: only the environment of the extra ``clients`` has them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from support.embedding import vector
from support.story import text_of

#: On each module of tests with real clients.
needs_clients = pytest.mark.skipif(
    find_spec("langchain_postgres") is None, reason="the extra clients is not installed; .ci/run does it"
)
SECTIONS = ("io", "net", "text")


class Embeddings:
    """LangChain's interface to the toy model."""

    def __init__(self, dims: int = 64) -> None:
        self._dims = dims

    def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed documents."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Embed a query."""
        return [float(number) for number in vector(text, self._dims)]

    async def aembed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed documents."""
        return self.embed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a query."""
        return self.embed_query(text)


def metadata_of(number: int) -> dict[str, Any]:
    """Return the metadata of a document: text, a whole number, a flag, and something with parts."""
    section = SECTIONS[number % len(SECTIONS)]
    return {"section": section, "page": number, "draft": number % 2 == 0, "more": {"tag": f"its own {number}"}}


def with_driver(url: str, driver: str) -> str:
    """Return the URL as SQLAlchemy wants it."""
    return url.replace("postgresql://", f"postgresql+{driver}://", 1)


# LangChain ---------------------------------------------------------------------------------------------------------


def documents(numbers: Sequence[int], ids: Sequence[str]) -> list[Any]:
    """Return documents of LangChain's."""
    from langchain_core.documents import Document

    return [
        Document(id=id_, page_content=text_of(number), metadata=metadata_of(number))
        for number, id_ in zip(numbers, ids, strict=True)
    ]


@contextmanager
def langchain_pgvector(url: str, collection: str = "handbook", *, dims: int = 64) -> Iterator[Any]:
    """Open LangChain's PGVector on one of its collections, which it makes with its tables."""
    from langchain_postgres import PGVector
    from sqlalchemy import NullPool, create_engine

    engine = create_engine(with_driver(url, "psycopg"), poolclass=NullPool)
    store = PGVector(Embeddings(dims), connection=engine, collection_name=collection)
    try:
        yield store
    finally:
        store.session_maker.remove()
        engine.dispose()


def fill_pgvector(store: Any, count: int = 20) -> list[str]:
    """Add documents handbook-1, handbook-2, …; return their ids."""
    ids = [f"{store.collection_name}-{number}" for number in range(1, count + 1)]
    added: list[str] = store.add_documents(documents(range(1, count + 1), ids))
    return added


def collection_id(store: Any) -> str:
    """Return the id of a PGVector's collection."""
    with store._make_sync_session() as session:
        return str(store.get_collection(session).uuid)


@contextmanager
def langchain_store(
    url: str, table: str, *, make: bool = True, dims: int = 64, embeddings: Any = None, **more: Any
) -> Iterator[Any]:
    """Open LangChain's PGVectorStore on a table, which is made with a column ``section`` of its own."""
    from langchain_postgres import Column, PGEngine, PGVectorStore
    from sqlalchemy import NullPool

    engine = PGEngine.from_connection_string(with_driver(url, "psycopg"), poolclass=NullPool)
    if make:
        engine.init_vectorstore_table(table, vector_size=dims, metadata_columns=[Column("section", "TEXT")])
    wanted = {"metadata_columns": ["section"]} | more
    try:
        yield PGVectorStore.create_sync(engine, embeddings or Embeddings(dims), table, **wanted)
    finally:
        engine._run_as_sync(engine._pool.dispose())


def store_id(number: int) -> str:
    """Return the id of a document of PGVectorStore's."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"handbook-{number}"))


def fill_store(store: Any, count: int = 20) -> list[str]:
    """Add documents; return their ids."""
    ids = [store_id(number) for number in range(1, count + 1)]
    added: list[str] = store.add_documents(documents(range(1, count + 1), ids))
    return added


# LlamaIndex --------------------------------------------------------------------------------------------------------


@contextmanager
def llama_store(url: str, name: str = "handbook", dims: int = 64, *, perform_setup: bool = True) -> Iterator[Any]:
    """Open LlamaIndex's PGVectorStore, whose table is ``data_<name>``."""
    from llama_index.vector_stores.postgres import PGVectorStore
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_engine(with_driver(url, "psycopg2"), poolclass=NullPool)
    async_engine = create_async_engine(with_driver(url, "asyncpg"), poolclass=NullPool)
    store = PGVectorStore(
        engine=engine,
        async_engine=async_engine,
        table_name=name,
        schema_name="public",
        embed_dim=dims,
        perform_setup=perform_setup,
    )
    try:
        yield store
    finally:
        engine.dispose()


def nodes(numbers: Sequence[int], dims: int = 64) -> list[Any]:
    """Return nodes of LlamaIndex's, each a part of one document."""
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

    return [
        TextNode(
            id_=f"handbook-{number}",
            text=text_of(number),
            metadata=metadata_of(number),
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="the handbook")},
            embedding=[float(part) for part in vector(text_of(number), dims)],
        )
        for number in numbers
    ]


# Django ------------------------------------------------------------------------------------------------------------


@contextmanager
def django_models(url: str) -> Iterator[tuple[Any, Any]]:
    """Make the table of a model, and yield it with an unmanaged one of the live view of the collection ``pages``."""
    from django.db import connection, connections

    page, view = _django_models()
    told = conninfo_to_dict(url)
    connections["default"].settings_dict |= {"NAME": told["dbname"], "USER": told["user"], "HOST": told["host"]}
    connections.databases["default"] = connections["default"].settings_dict
    with connection.schema_editor() as editor:
        editor.create_model(page)
    try:
        yield page, view
    finally:
        connection.close()


@cache
def _django_models() -> tuple[Any, Any]:
    import django
    from django.conf import settings
    from django.db import models
    from pgvector.django import VectorField

    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql"}})
    django.setup()

    def made(name: str, *, managed: bool, **fields: Any) -> Any:
        meta = type("Meta", (), {"app_label": "search", "db_table": name, "managed": managed})
        fields |= {"id": models.BigIntegerField(primary_key=True), "body": models.TextField()}
        return type(name.title(), (models.Model,), {"Meta": meta, "__module__": __name__, **fields})

    page = made("pages", managed=True, embedding=VectorField(dimensions=64))
    view = made("pages_live", managed=False, embedding=VectorField(), tag=models.TextField())
    return page, view
