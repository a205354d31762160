"""What real clients filled is adopted, migrated to other dims while they go on writing, read, and rolled back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from support import clients
from support.embedding import Model
from support.lab import SMALL, Lab
from support.story import COUNT, HOMES, Ask, Client, tell_the_story, text_of
from vecmig.reader import Reader

pytestmark = clients.needs_clients


# LangChain ---------------------------------------------------------------------------------------------------------


def langchain_client(store: Any, id_of: Callable[[int], str]) -> Client:
    """What an application does with either of LangChain's stores."""
    return Client(
        add=lambda number: store.add_documents(clients.documents([number], [id_of(number)])),
        edit=lambda number, other: store.add_documents(clients.documents([other], [id_of(number)])),
        delete=lambda number: store.delete([id_of(number)]),
        find=lambda number: store.similarity_search(text_of(number), k=1)[0].id,
        id_of=id_of,
    )


@contextmanager
def by_retriever(reader: Reader) -> Iterator[Ask]:
    """Ask LangChain's retriever."""
    from vecmig.integrations.langchain import VecmigRetriever

    retriever = VecmigRetriever(reader=reader, collection="handbook", k=1)
    yield lambda number: str(retriever.invoke(text_of(number))[0].id)


@pytest.mark.parametrize("home", HOMES)
def test_langchain_pgvector(bare_lab: Lab, model: Model, home: str) -> None:
    def id_of(number: int) -> str:
        return f"handbook-{number}"

    # another collection in the same table, of another model
    with clients.langchain_pgvector(bare_lab.url, "other", dims=32) as other:
        clients.fill_pgvector(other, 5)
        with clients.langchain_pgvector(bare_lab.url) as store:
            clients.fill_pgvector(store, COUNT)
            lab = bare_lab.write(
                name="handbook",
                source="langchain_pg_embedding",
                key=("id",),
                text="document",
                options={"where": f"collection_id = '{clients.collection_id(store)}'"},
            )
            tell_the_story(lab, model, langchain_client(store, id_of), by_retriever, home=home)
        assert [d.id for d in other.similarity_search(text_of(2), k=1)] == ["other-2"]


def test_two_collections_of_one_table_are_adopted_apart(bare_lab: Lab, model: Model) -> None:
    wheres = {}
    for name in ("handbook", "minutes"):
        with clients.langchain_pgvector(bare_lab.url, name) as store:
            clients.fill_pgvector(store, 5)
            wheres[name] = f"collection_id = '{clients.collection_id(store)}'"
    source: dict[str, Any] = {"source": "langchain_pg_embedding", "key": ["id"], "text": "document"}
    lab = bare_lab.write(name="handbook", chain=(SMALL,), options={"where": wheres["handbook"]}, **source)
    written = lab.path / "migrations" / "collections.yaml"
    data = yaml.safe_load(written.read_text())
    data["collections"]["minutes"] = source | {"where": wheres["minutes"], "tag": SMALL}
    written.write_text(yaml.safe_dump(data))
    lab.script(2, None, SMALL, collection="minutes", down=None)
    for script in (lab.path / "migrations" / "versions").glob("*.py"):
        script.write_text(script.read_text().replace("m.backfill()", 'm.adopt("embedding")'))
    lab.upgrade()
    with clients.langchain_pgvector(bare_lab.url, "minutes") as store:
        store.add_documents(clients.documents([6], ["minutes-6"]))
    lab.sync()
    assert model.total() == 0
    with lab.reader() as reader:
        for name, count in (("handbook", 5), ("minutes", 6)):
            found = {hit.key[0] for hit in reader.search(name, text_of(1), k=20)}
            assert found == {f"{name}-{number}" for number in range(1, count + 1)}


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("read", ["retriever", "live view"])
def test_langchain_pgvectorstore(bare_lab: Lab, model: Model, read: str, home: str) -> None:
    @contextmanager
    def by_store(reader: Reader) -> Iterator[Ask]:
        from vecmig.integrations.langchain import VecmigEmbeddings

        embeddings = VecmigEmbeddings(reader, "handbook")
        opened = clients.langchain_store(
            bare_lab.url, "handbook_live", make=False, embeddings=embeddings, metadata_columns=["section", "tag"]
        )
        with opened as live:

            def ask(number: int) -> str:
                wanted = {"tag": reader.live_tag("handbook")}
                return str(live.similarity_search(text_of(number), k=1, filter=wanted)[0].id)

            yield ask

    with clients.langchain_store(bare_lab.url, "pages") as store:
        clients.fill_store(store, COUNT)
        lab = bare_lab.write(
            name="handbook",
            source="pages",
            key=("langchain_id",),
            text="content",
            options={"live_columns": ["langchain_metadata", "section"]},
        )
        reading = by_retriever if read == "retriever" else by_store
        tell_the_story(lab, model, langchain_client(store, clients.store_id), reading, home=home)


# LlamaIndex --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
def test_llama_index(bare_lab: Lab, model: Model, home: str) -> None:
    from llama_index.core.vector_stores import VectorStoreQuery

    from vecmig.integrations.llama_index import VecmigRetriever

    def id_of(number: int) -> str:
        return f"handbook-{number}"

    def edit(number: int, other: int) -> None:
        (node,) = clients.nodes([other])
        node.id_ = id_of(number)
        store.delete_nodes([id_of(number)])
        store.add([node])

    def find(number: int) -> str:
        embedding = clients.Embeddings().embed_query(text_of(number))
        return str(store.query(VectorStoreQuery(query_embedding=embedding, similarity_top_k=1)).ids[0])

    @contextmanager
    def by_llama_retriever(reader: Reader) -> Iterator[Ask]:
        retriever = VecmigRetriever(reader, "handbook", similarity_top_k=1)
        yield lambda number: str(retriever.retrieve(text_of(number))[0].node.node_id)

    with clients.llama_store(bare_lab.url) as store:
        store.add(clients.nodes(range(1, COUNT + 1)))
        lab = bare_lab.write(name="handbook", source="data_handbook", key=("id",), text="text")
        client = Client(
            add=lambda number: store.add(clients.nodes([number])),
            edit=edit,
            delete=lambda number: store.delete_nodes([id_of(number)]),
            find=find,
            id_of=id_of,
        )
        tell_the_story(lab, model, client, by_llama_retriever, home=home)


# Models of the application's own -----------------------------------------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
def test_sqlalchemy(bare_lab: Lab, model: Model, home: str) -> None:
    from pgvector.sqlalchemy import VECTOR
    from sqlalchemy import BigInteger, Column, MetaData, NullPool, Table, Text, create_engine, delete, select, update

    from vecmig.sqlalchemy import live

    engine = create_engine(clients.with_driver(bare_lab.url, "psycopg"), poolclass=NullPool)
    pages = Table(
        "pages",
        MetaData(),
        Column("id", BigInteger, primary_key=True),
        Column("body", Text),
        Column("embedding", VECTOR(64)),
    )
    pages.metadata.create_all(engine)

    def values(number: int) -> dict[str, Any]:
        return {"body": text_of(number), "embedding": clients.Embeddings().embed_query(text_of(number))}

    def run(statement: Any) -> None:
        with engine.begin() as connection:
            connection.execute(statement)

    def nearest(statement: Any) -> str:
        with engine.connect() as connection:
            return str(connection.execute(statement).first()[0])  # type: ignore[index]

    def find(number: int) -> str:
        distance = pages.c.embedding.cosine_distance(values(number)["embedding"])
        return nearest(select(pages.c.id).order_by(distance).limit(1))

    @contextmanager
    def by_live_view(reader: Reader) -> Iterator[Ask]:
        view = live("pages", MetaData(), Column("id", BigInteger, primary_key=True))

        def ask(number: int) -> str:
            tag, vector = reader.embed("pages", text_of(number))
            distance = view.c.embedding.cosine_distance(vector)
            return nearest(select(view.c.id).where(view.c.tag == tag).order_by(distance).limit(1))

        yield ask

    client = Client(
        add=lambda number: run(pages.insert().values(id=number, **values(number))),
        edit=lambda number, other: run(update(pages).where(pages.c.id == number).values(**values(other))),
        delete=lambda number: run(delete(pages).where(pages.c.id == number)),
        find=find,
        id_of=str,
    )
    for number in range(1, COUNT + 1):
        client.add(number)
    lab = bare_lab.write(name="pages", source="pages", key=("id",), text="body")
    tell_the_story(lab, model, client, by_live_view, home=home)


@pytest.mark.parametrize("home", HOMES)
def test_django(bare_lab: Lab, model: Model, home: str) -> None:
    def values(number: int) -> dict[str, Any]:
        return {"body": text_of(number), "embedding": clients.Embeddings().embed_query(text_of(number))}

    def nearest(rows: Any, vector: Any) -> str:
        from pgvector.django import CosineDistance

        return str(rows.order_by(CosineDistance("embedding", vector)).values_list("pk", flat=True)[0])

    def closing(operation: Callable[..., Any]) -> Callable[..., None]:
        def run(*numbers: int) -> None:
            from django.db import connection

            operation(*numbers)
            # each thread has a connection of its own
            connection.close()

        return run

    with clients.django_models(bare_lab.url) as (page, view):

        @contextmanager
        def by_live_view(reader: Reader) -> Iterator[Ask]:
            def ask(number: int) -> str:
                tag, vector = reader.embed("pages", text_of(number))
                return nearest(view.objects.filter(tag=tag), vector)

            yield ask

        client = Client(
            add=closing(lambda number: page.objects.create(id=number, **values(number))),
            edit=closing(lambda number, other: page.objects.filter(id=number).update(**values(other))),
            delete=closing(lambda number: page.objects.filter(id=number).delete()),
            find=lambda number: nearest(page.objects, values(number)["embedding"]),
            id_of=str,
        )
        for number in range(1, COUNT + 1):
            client.add(number)
        lab = bare_lab.write(name="pages", source="pages", key=("id",), text="body")
        tell_the_story(lab, model, client, by_live_view, home=home)
