"""The stores of LangChain and LlamaIndex read a live view as they read a table of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from support import clients
from support.lab import LARGE, SMALL, Lab
from support.story import text_of
from support.waiting import wait_for
from vecmig.errors import UsageError
from vecmig.reader import Reader

pytestmark = clients.needs_clients


# LangChain's PGVectorStore -----------------------------------------------------------------------------------------


@pytest.fixture
def pages(bare_lab: Lab) -> Iterator[Any]:
    """A store with 20 documents."""
    with clients.langchain_store(bare_lab.url, "pages") as store:
        clients.fill_store(store)
        yield store


@pytest.fixture
def handbook(bare_lab: Lab, pages: Any) -> Lab:
    """The collection over its table, live under ``SMALL``; its revision r2 goes to ``LARGE``."""
    options = {"live_columns": ["langchain_metadata", "section"]}
    lab = bare_lab.write(name="handbook", source="pages", key=("langchain_id",), text="content", options=options)
    lab.upgrade("r1")
    return lab


QUERY = text_of(7)
VECTOR = clients.Embeddings().embed_query(QUERY)
READS: dict[str, Callable[[Any], Any]] = {
    "search": lambda store: store.similarity_search(QUERY, k=3),
    "with score": lambda store: store.similarity_search_with_score(QUERY, k=3),
    "with relevance": lambda store: store.similarity_search_with_relevance_scores(QUERY, k=3),
    "by vector": lambda store: store.similarity_search_by_vector(VECTOR, k=3),
    "marginal relevance": lambda store: store.max_marginal_relevance_search(QUERY, k=3),
    "a column": lambda store: store.similarity_search(QUERY, k=3, filter={"section": "io"}),
    "json": lambda store: store.similarity_search(QUERY, k=3, filter={"page": {"$gt": 17}}),
    "both": lambda store: store.similarity_search(QUERY, k=3, filter={"$or": [{"page": 3}, {"section": "net"}]}),
    "by id": lambda store: store.get_by_ids([clients.store_id(3)]),
    "get": lambda store: store.get(ids=[clients.store_id(3)], include=["metadatas", "documents"]),
    "retriever": lambda store: store.as_retriever(search_kwargs={"k": 3}).invoke(QUERY),
    "async": lambda store: asyncio.run(store.asimilarity_search(QUERY, k=3)),
    "async retriever": lambda store: asyncio.run(store.as_retriever(search_kwargs={"k": 3}).ainvoke(QUERY)),
}


@pytest.mark.parametrize("read", READS)
def test_reads_give_what_the_table_gives(handbook: Lab, pages: Any, read: str) -> None:
    with clients.langchain_store(handbook.url, "handbook_live", make=False) as live:
        found = READS[read](live)
        assert repr(found) == repr(READS[read](pages))
    assert found


def test_writes_are_refused_and_change_nothing(handbook: Lab, pages: Any) -> None:
    from langchain_postgres.v2.indexes import HNSWIndex

    added = clients.documents([30], [clients.store_id(30)])
    with clients.langchain_store(handbook.url, "handbook_live", make=False) as live:
        for write, given in (
            (live.add_documents, added),
            (live.delete, [clients.store_id(3)]),
            (live.apply_vector_index, HNSWIndex()),
        ):
            with pytest.raises(Exception, match="handbook_live"):
                write(given)
        assert len(pages.get(limit=100)["ids"]) == 20
        # it goes to the source, and from there to the view
        pages.add_documents(added)
        handbook.sync()
        (found,) = live.similarity_search(text_of(30), k=1)
    assert found.id == clients.store_id(30)


def _is_live(reader: Reader, tag: str) -> bool:
    return reader.live_tag("handbook") == tag


def test_queries_are_embedded_by_the_live_tag(handbook: Lab) -> None:
    from vecmig.integrations.langchain import VecmigEmbeddings

    with handbook.reader() as reader:
        embeddings = VecmigEmbeddings(reader, "handbook")
        opened = clients.langchain_store(
            handbook.url, "handbook_live", make=False, embeddings=embeddings, metadata_columns=["section", "tag"]
        )
        with opened as live:
            for revision, tag, other in (("r1", SMALL, LARGE), ("r2", LARGE, SMALL)):
                handbook.upgrade(revision)
                # within milliseconds it hears of it, and asks in vain until then
                wait_for(partial(_is_live, reader, tag))
                (found,) = live.similarity_search(QUERY, k=1, filter={"tag": reader.live_tag("handbook")})
                assert (found.id, found.metadata["tag"]) == (clients.store_id(7), tag)
                assert live.similarity_search(QUERY, k=1, filter={"tag": other}) == []
            (found,) = asyncio.run(live.asimilarity_search(QUERY, k=1))
            assert found.id == clients.store_id(7)
            with pytest.raises(UsageError, match="takes no documents") as refused:
                live.add_documents(clients.documents([30], [clients.store_id(30)]))
            assert "store on the source" in refused.value.hint


# LlamaIndex's PGVectorStore ----------------------------------------------------------------------------------------


def test_llama_index_reads_the_view_of_a_collection_called_like_its_table(bare_lab: Lab) -> None:
    from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery

    options = {"live_columns": ["node_id", "metadata_"]}
    lab = bare_lab.write(name="data_handbook", source="data_handbook", key=("id",), text="text", options=options)
    with clients.llama_store(lab.url) as store:
        store.add(clients.nodes(range(1, 21)))
        lab.upgrade("r1")
        filters = MetadataFilters(filters=[MetadataFilter(key="section", value="net")])
        with clients.llama_store(lab.url, "handbook_live", perform_setup=False) as live:
            for wanted in (None, filters):
                embedding = clients.Embeddings().embed_query(text_of(4))
                query = VectorStoreQuery(query_embedding=embedding, similarity_top_k=3, filters=wanted)
                assert live.query(query).ids == store.query(query).ids
                assert asyncio.run(live.aquery(query)).ids == store.query(query).ids
            assert [node.node_id for node in live.get_nodes(["handbook-3"])] == ["handbook-3"]
            for write, given in (
                (live.add, clients.nodes([30])),
                (live.delete, "the handbook"),
                (live.delete_nodes, ["handbook-3"]),
            ):
                with pytest.raises(Exception, match="data_handbook_live"):
                    write(given)
        lab.upgrade("r2")
        with lab.reader() as reader:
            _, vector = reader.embed("data_handbook", text_of(4))
        # the store checks its queries' dims, so it is opened with those of the live tag
        with clients.llama_store(lab.url, "handbook_live", dims=256, perform_setup=False) as live:
            found = live.query(VectorStoreQuery(query_embedding=[float(x) for x in vector], similarity_top_k=1))
            assert found.ids == ["handbook-4"]
