"""Retrievers of LangChain and LlamaIndex give what the clients' own stores give, from the live tag."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from support import clients
from support.lab import LARGE, SMALL, Lab
from support.story import text_of
from support.waiting import wait_for
from vecmig.errors import UsageError
from vecmig.reader import AsyncReader
from vecmig.runner.project import Project

pytestmark = clients.needs_clients


def told(documents: list[Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Say what documents are, without what is vecmig's own."""
    return [(d.id, d.page_content, {k: v for k, v in d.metadata.items() if k != "vecmig"}) for d in documents]


# LangChain's PGVector ----------------------------------------------------------------------------------------------


@pytest.fixture
def pgvector(database_url: str) -> Iterator[Any]:
    """A store of two collections, of which the other has the same texts."""
    with clients.langchain_pgvector(database_url, "other") as other:
        clients.fill_pgvector(other, 3)
    with clients.langchain_pgvector(database_url) as store:
        clients.fill_pgvector(store)
        yield store


@pytest.fixture
def handbook(bare_lab: Lab, pgvector: Any) -> Lab:
    """The collection handbook, live under ``SMALL``; its revision r2 goes to ``LARGE``."""
    where = f"collection_id = '{clients.collection_id(pgvector)}'"
    lab = bare_lab.write(
        name="handbook", source="langchain_pg_embedding", key=("id",), text="document", options={"where": where}
    )
    lab.upgrade("r1")
    return lab


def test_langchain_documents_are_those_of_its_own_store(handbook: Lab, pgvector: Any) -> None:
    from vecmig.integrations.langchain import VecmigRetriever

    with handbook.reader() as reader:
        retriever = VecmigRetriever(reader=reader, collection="handbook", k=3)
        found = retriever.invoke(text_of(7))
        assert told(found) == told(pgvector.similarity_search(text_of(7), k=3))
        assert (found[0].id, found[0].metadata["section"]) == ("handbook-7", "net")
        assert found[0].metadata["vecmig"] == {"tag": SMALL, "chunk": 0, "distance": pytest.approx(0, abs=1e-6)}
        # by an id that the store knows
        assert told(pgvector.get_by_ids([found[0].id])) == told(found[:1])
        handbook.upgrade("r2")
        wait_for(lambda: reader.live_tag("handbook") == LARGE)
        again = retriever.invoke(text_of(7))
    assert (again[0].id, again[0].metadata["vecmig"]["tag"]) == ("handbook-7", LARGE)


@pytest.mark.parametrize(
    "wanted",
    [
        {"section": "io"},
        {"section": {"$eq": "io"}, "draft": True},
        {"page": {"$in": [3, 4]}},
        {"$and": [{"page": 6}, {"section": "io"}]},
        {"page": 6.0},
        {"section": "no such"},
    ],
    ids=str,
)
def test_langchain_filters_are_those_of_its_own_store(handbook: Lab, pgvector: Any, wanted: dict[str, Any]) -> None:
    from vecmig.integrations.langchain import VecmigRetriever

    with handbook.reader() as reader:
        retriever = VecmigRetriever(reader=reader, collection="handbook", k=20, filter=wanted)
        found = told(retriever.invoke(text_of(6)))
        assert found == told(pgvector.similarity_search(text_of(6), k=20, filter=wanted))
        everything = VecmigRetriever(reader=reader, collection="handbook", k=20)
        assert told(everything.invoke(text_of(6), filter=wanted)) == found
    assert len(found) < 20


@pytest.mark.parametrize(
    "wanted",
    [
        {"page": {"$gt": 3}},
        {"$or": [{"page": 3}, {"page": 4}]},
        {"section": None},
        {"section": {"$in": []}},
        {"more": {"tag": "its own 1"}},
        {"$not": {"page": 3}},
    ],
    ids=str,
)
def test_what_is_more_than_equality_is_refused(handbook: Lab, wanted: dict[str, Any]) -> None:
    from vecmig.integrations.langchain import VecmigRetriever

    with handbook.reader() as reader:
        retriever = VecmigRetriever(reader=reader, collection="handbook", filter=wanted)
        with pytest.raises(UsageError, match="more than equality") as refused:
            retriever.invoke("anything")
        assert "where=" in refused.value.hint
        # and what it names instead works, alone and beside a filter
        condition = {"where": "(cmetadata ->> 'page')::int > %s", "params": [18]}
        assert len(retriever.invoke("anything", filter={}, **condition)) == 2
        assert [d.id for d in retriever.invoke("anything", filter={"section": "net"}, **condition)] == ["handbook-19"]


@pytest.mark.parametrize("name", ["section' OR true --", 'x" OR true --', "%s", "100 %", "a'); DROP TABLE x; --"])
def test_no_name_and_no_value_of_a_filter_is_sql(handbook: Lab, name: str) -> None:
    from vecmig.integrations.langchain import VecmigRetriever

    with handbook.reader() as reader:
        retriever = VecmigRetriever(reader=reader, collection="handbook", k=20)
        assert retriever.invoke("anything", filter={name: "io"}) == []
        assert retriever.invoke("anything", filter={"section": name}) == []


def test_langchain_awaits_either_reader(handbook: Lab) -> None:
    from vecmig.integrations.langchain import VecmigRetriever

    async def ask(reader: Any) -> Any:
        retriever = VecmigRetriever(reader=reader, collection="handbook", k=2)
        return await retriever.ainvoke(text_of(5), filter={"section": "text"})

    async def ask_async() -> Any:
        async with AsyncReader(handbook.url, recipes=Project(handbook.config).collections.recipes) as reader:
            with pytest.raises(UsageError, match="can only be awaited"):
                VecmigRetriever(reader=reader, collection="handbook").invoke("anything")
            return await ask(reader)

    with handbook.reader() as reader:
        waited = asyncio.run(ask(reader))
    assert told(waited) == told(asyncio.run(ask_async()))
    assert waited[0].id == "handbook-5"


# LangChain's PGVectorStore -----------------------------------------------------------------------------------------


def test_a_store_with_columns_of_metadata(bare_lab: Lab) -> None:
    from vecmig.integrations.langchain import VecmigRetriever

    lab = bare_lab.write(name="handbook", source="pages", key=("langchain_id",), text="content")
    with clients.langchain_store(lab.url, "pages") as store:
        clients.fill_store(store)
        lab.upgrade("r1")
        with lab.reader() as reader:
            retriever = VecmigRetriever(reader=reader, collection="handbook", k=20, metadata_columns=["section"])
            found: list[tuple[str, str, dict[str, Any]]] = []
            for wanted in (None, {"section": "io"}, {"page": 4}, {"section": "net", "draft": False}):
                found = told(retriever.invoke(text_of(4), filter=wanted))
                assert found == told(store.similarity_search(text_of(4), k=20, filter=wanted))
            assert (found[0][0] in {clients.store_id(n) for n in range(1, 21)}, found[0][2]["section"]) == (True, "net")
            with pytest.raises(UsageError, match="no column chapter") as refused:
                VecmigRetriever(reader=reader, collection="handbook", metadata_columns=["chapter"]).invoke("x")
            assert "langchain_metadata" in refused.value.hint


# LlamaIndex --------------------------------------------------------------------------------------------------------


@pytest.fixture
def llama(database_url: str) -> Iterator[Any]:
    """A store with 20 nodes."""
    with clients.llama_store(database_url) as store:
        store.add(clients.nodes(range(1, 21)))
        yield store


@pytest.fixture
def llama_lab(bare_lab: Lab, llama: Any) -> Lab:
    """The collection handbook over its table."""
    lab = bare_lab.write(name="handbook", source="data_handbook", key=("id",), text="text")
    lab.upgrade("r1")
    return lab


def test_llama_index_nodes_are_those_of_its_own_store(llama_lab: Lab, llama: Any) -> None:
    from llama_index.core.schema import MetadataMode
    from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery

    from vecmig.integrations.llama_index import VecmigRetriever

    wanted = MetadataFilters(filters=[MetadataFilter(key="section", value="net")])
    query = VectorStoreQuery(
        query_embedding=clients.Embeddings().embed_query(text_of(4)), similarity_top_k=5, filters=wanted
    )
    own = llama.query(query)
    with llama_lab.reader() as reader:
        found = VecmigRetriever(reader, "handbook", similarity_top_k=5, filters=wanted).retrieve(text_of(4))
    assert [f.node.node_id for f in found] == own.ids
    assert [f.score for f in found] == pytest.approx(own.similarities, abs=1e-5)
    assert found[0].node.node_id == "handbook-4"
    for mine, theirs in zip(found, own.nodes, strict=True):
        assert mine.node.metadata.pop("vecmig")["tag"] == SMALL
        assert (mine.node.metadata, mine.text) == (theirs.metadata, theirs.get_content())
        assert mine.node.relationships == theirs.relationships
        # a prompt has what it had
        for mode in (MetadataMode.LLM, MetadataMode.EMBED):
            assert mine.node.get_content(mode) == theirs.get_content(mode)


def test_no_prompt_shows_what_is_vecmigs(llama_lab: Lab) -> None:
    from llama_index.core.schema import MetadataMode

    from vecmig.integrations.llama_index import VecmigRetriever

    with llama_lab.reader() as reader:
        (found,) = VecmigRetriever(reader, "handbook", similarity_top_k=1).retrieve(text_of(2))
    assert found.node.metadata["vecmig"]["tag"] == SMALL
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert SMALL not in found.node.get_content(mode)


def test_llama_index_awaits_either_reader(llama_lab: Lab) -> None:
    from vecmig.integrations.llama_index import VecmigRetriever

    async def ask_async() -> Any:
        async with AsyncReader(llama_lab.url, recipes=Project(llama_lab.config).collections.recipes) as reader:
            return await VecmigRetriever(reader, "handbook").aretrieve(text_of(9))

    with llama_lab.reader() as reader:
        waited = asyncio.run(VecmigRetriever(reader, "handbook").aretrieve(text_of(9)))
    assert [f.node.node_id for f in waited] == [f.node.node_id for f in asyncio.run(ask_async())]
    assert waited[0].node.node_id == "handbook-9"
    assert len(waited) == 2


def test_llama_index_filters_of_equality_alone(llama_lab: Lab) -> None:
    from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

    from vecmig.integrations.llama_index import VecmigRetriever

    def ids(filters: MetadataFilters) -> set[str]:
        found = VecmigRetriever(reader, "handbook", similarity_top_k=20, filters=filters).retrieve("anything")
        return {f.node.node_id for f in found}

    pages = MetadataFilter(key="page", value=[3, 4, 6], operator=FilterOperator.IN)
    section = MetadataFilter(key="section", value="io")
    with llama_lab.reader() as reader:
        assert ids(MetadataFilters(filters=[pages, section])) == {"handbook-3", "handbook-6"}
        assert ids(MetadataFilters(filters=[MetadataFilters(filters=[section]), pages])) == {"handbook-3", "handbook-6"}
        either = MetadataFilters(filters=[pages, section], condition=FilterCondition.OR)
        above = MetadataFilters(filters=[MetadataFilter(key="page", value=3, operator=FilterOperator.GT)])
        for more in (either, above):
            with pytest.raises(UsageError, match="more than equality"):
                ids(more)


# Tables of one's own -----------------------------------------------------------------------------------------------


def test_a_key_of_several_columns_is_one_id(bare_lab: Lab) -> None:
    from vecmig.integrations.langchain import VecmigRetriever
    from vecmig.integrations.llama_index import VecmigRetriever as LlamaRetriever

    bare_lab.sql("CREATE TABLE pages (tenant text, page int, body text, facts jsonb, PRIMARY KEY (tenant, page))")
    for tenant in ("acme", "a:b", "a%3Ab"):
        bare_lab.sql("INSERT INTO pages VALUES (%s, 3, %s, %s::jsonb)", tenant, f"by {tenant}", '{"lang": "en"}')
    lab = bare_lab.write(name="pages", source="pages", key=("tenant", "page"), text="body")
    lab.upgrade("r1")
    with lab.reader() as reader:
        retriever = VecmigRetriever(
            reader=reader, collection="pages", metadata_column="facts", metadata_columns=["tenant", "page"]
        )
        found = told(retriever.invoke("by acme"))
        assert found[0] == ("acme:3", "by acme", {"lang": "en", "tenant": "acme", "page": 3})
        assert {id_ for id_, *_ in found} == {"acme:3", "a%3Ab:3", "a%253Ab:3"}
        assert [id_ for id_, *_ in told(retriever.invoke("x", filter={"tenant": "a:b", "lang": "en"}))] == ["a%3Ab:3"]
        bare = VecmigRetriever(reader=reader, collection="pages")
        assert told(bare.invoke("by acme"))[0] == ("acme:3", "by acme", {})
        with pytest.raises(UsageError, match="no metadata of this retriever"):
            bare.invoke("x", filter={"tenant": "acme"})
        with pytest.raises(UsageError, match="no JSON object there"):
            VecmigRetriever(reader=reader, collection="pages", metadata_column="body").invoke("x")
        (node, *_) = LlamaRetriever(reader, "pages", metadata_columns=["page"], id_column="tenant").retrieve("by acme")
        assert (node.node.node_id, node.node.metadata["page"], node.text) == ("acme", 3, "by acme")
