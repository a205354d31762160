"""What docs/adopt.md advises about the old column, and what it advises against, was tried with the column's client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg import errors

from support import clients
from support.adopting import adopts
from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from support.story import text_of
from vecmig import runner

pytestmark = clients.needs_clients


def migrated(lab: Lab) -> None:
    """Adopt, and go to the next tag, which is trusted at once."""
    adopts(lab, 'm.adopt("embedding")')
    script = lab.path / "migrations" / "versions" / "r2.py"
    told = script.read_text().replace("from vecmig import Gate,", "from vecmig import Gate, Trust,")
    script.write_text(f"{told}\n\ntrust = Trust(days=0, eval_days=0)\n")
    lab.upgrade()


def retire(lab: Lab) -> None:
    """Let the adopted tag go."""
    runner.retire(lab.config, lab.name, SMALL)


def found(lab: Lab, number: int) -> Any:
    """Return the record that a reader finds for the text of a number."""
    with lab.reader() as reader:
        (hit,) = reader.search(lab.name, text_of(number), k=1)
    assert hit.tag == LARGE
    return hit.record


# LangChain's PGVector ----------------------------------------------------------------------------------------------


@pytest.fixture
def pgvector(bare_lab: Lab) -> Lab:
    """A collection of LangChain's PGVector, migrated."""
    with clients.langchain_pgvector(bare_lab.url) as store:
        clients.fill_pgvector(store)
        where = f"collection_id = '{clients.collection_id(store)}'"
    lab = bare_lab.write(
        name="handbook", source="langchain_pg_embedding", key=("id",), text="document", options={"where": where}
    )
    migrated(lab)
    return lab


def test_pgvector_without_its_column_reads_and_writes_no_more(pgvector: Lab) -> None:
    retire(pgvector)
    pgvector.sql("ALTER TABLE langchain_pg_embedding DROP COLUMN embedding")
    with clients.langchain_pgvector(pgvector.url) as store:
        for use, given in (
            (store.add_documents, clients.documents([30], ["handbook-30"])),
            (store.similarity_search, text_of(1)),
            (store.get_by_ids, ["handbook-1"]),
        ):
            with pytest.raises(Exception, match=r"column .*embedding.* does not exist"):
                use(given)


def test_pgvector_goes_on_with_an_empty_column_and_a_vector_of_one_number(pgvector: Lab, model: Model) -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding

    retire(pgvector)
    pgvector.sql("UPDATE langchain_pg_embedding SET embedding = NULL")
    with clients.langchain_pgvector(pgvector.url) as store:
        store.embedding_function = DeterministicFakeEmbedding(size=1)
        store.add_documents(clients.documents([30], ["handbook-30"]))
        store.delete(["handbook-4"])
        assert [document.id for document in store.get_by_ids(["handbook-1", "handbook-30"])] == [
            "handbook-1",
            "handbook-30",
        ]
    pgvector.sync()
    assert found(pgvector, 30)["id"] == "handbook-30"
    assert found(pgvector, 4)["id"] != "handbook-4"
    assert (model.total(64), pgvector.cover(LARGE).fresh) == (0, 20)


# LangChain's PGVectorStore -----------------------------------------------------------------------------------------

SHRINK = "ALTER TABLE pages ALTER COLUMN embedding DROP NOT NULL, ALTER COLUMN embedding TYPE vector(1) USING NULL"


@pytest.fixture
def pages(bare_lab: Lab) -> Lab:
    """A table of LangChain's PGVectorStore, migrated."""
    with clients.langchain_store(bare_lab.url, "pages") as store:
        clients.fill_store(store)
    lab = bare_lab.write(name="handbook", source="pages", key=("langchain_id",), text="content")
    migrated(lab)
    return lab


def test_pgvectorstore_does_not_open_without_its_column(pages: Lab) -> None:
    retire(pages)
    pages.sql("ALTER TABLE pages DROP COLUMN embedding")
    with (
        pytest.raises(ValueError, match="Embedding column, embedding, does not exist"),
        clients.langchain_store(pages.url, "pages", make=False),
    ):
        pass


def test_pgvectorstore_goes_on_with_a_column_of_one_number(pages: Lab, model: Model) -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding

    with pytest.raises(errors.NotNullViolation):
        pages.sql("UPDATE pages SET embedding = NULL")
    retire(pages)
    pages.sql(SHRINK)
    small = DeterministicFakeEmbedding(size=1)
    with clients.langchain_store(pages.url, "pages", make=False, embeddings=small) as store:
        store.add_documents(clients.documents([30], [clients.store_id(30)]))
        assert len(store.get_by_ids([clients.store_id(1)])) == 1
    pages.sync()
    assert found(pages, 30)["langchain_id"] == clients.store_id(30)
    assert (model.total(64), pages.cover(LARGE).fresh) == (0, 21)


# LlamaIndex --------------------------------------------------------------------------------------------------------


@pytest.fixture
def data_handbook(bare_lab: Lab) -> Lab:
    """A table of LlamaIndex's, migrated."""
    with clients.llama_store(bare_lab.url) as store:
        store.add(clients.nodes(range(1, 21)))
    lab = bare_lab.write(name="handbook", source="data_handbook", key=("id",), text="text")
    migrated(lab)
    return lab


def test_llama_index_without_its_column_reads_and_writes_no_more(data_handbook: Lab) -> None:
    retire(data_handbook)
    data_handbook.sql("ALTER TABLE data_handbook DROP COLUMN embedding")
    with clients.llama_store(data_handbook.url) as store:
        for use, given in ((store.add, clients.nodes([30])), (store.get_nodes, ["handbook-1"])):
            with pytest.raises(Exception, match=r"column .*embedding.* does not exist"):
                use(given)


def test_llama_index_goes_on_with_a_column_of_one_number(data_handbook: Lab, model: Model) -> None:
    from llama_index.core import MockEmbedding

    retire(data_handbook)
    data_handbook.sql("ALTER TABLE data_handbook ALTER COLUMN embedding TYPE vector(1) USING NULL")
    (node,) = clients.nodes([30])
    node.embedding = MockEmbedding(embed_dim=1).get_text_embedding(node.text)
    with clients.llama_store(data_handbook.url, dims=1) as store:
        store.add([node])
        assert {each.node_id for each in store.get_nodes(["handbook-1", "handbook-30"])} == {
            "handbook-1",
            "handbook-30",
        }
    data_handbook.sync()
    assert found(data_handbook, 30)["node_id"] == "handbook-30"
    assert (model.total(64), data_handbook.cover(LARGE).fresh) == (0, 21)


# Models of the application's own -----------------------------------------------------------------------------------


@contextmanager
def pages_of_django(lab: Lab) -> Iterator[tuple[Lab, Any]]:
    """Make and fill a table with a model of Django's, and migrate it."""
    with clients.django_models(lab.url) as (page, _):
        for number in range(1, 21):
            vector = clients.Embeddings().embed_query(text_of(number))
            page.objects.create(id=number, body=text_of(number), embedding=vector)
        lab = lab.write(name="pages", source="pages", key=("id",), text="body")
        migrated(lab)
        yield lab, page


def remove_embedding(page: Any) -> None:
    """Run what a migration with RemoveField runs."""
    from django.db import connection

    with connection.schema_editor() as editor:
        editor.remove_field(page, page._meta.get_field("embedding"))


def test_a_column_of_ones_own_goes_after_the_tag(bare_lab: Lab, model: Model) -> None:
    with pages_of_django(bare_lab) as (lab, page):
        with pytest.raises(errors.DependentObjectsStillExist, match="vecmig_pages_track_vector"):
            lab.sql("ALTER TABLE pages DROP COLUMN embedding")
        retire(lab)
        remove_embedding(page)
        assert lab.sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'vecmig%'")[0][0] > 0
        page.objects.filter(id=3).update(body=text_of(300))
    lab.sync()
    assert found(lab, 300)["id"] == 3
    assert (model.total(64), lab.cover(LARGE).fresh) == (0, 20)


def test_django_drops_a_column_with_what_depends_on_it(bare_lab: Lab, model: Model) -> None:
    with pages_of_django(bare_lab) as (lab, page):
        # its statement ends with CASCADE
        remove_embedding(page)
        (finding,) = runner.audit(lab.config, ask=False).findings
        assert (finding.kind, finding.fix) == ("triggers", "vecmig sync pages")
        page.objects.filter(id=3).update(body=text_of(300))
    lab.sync()
    assert runner.audit(lab.config, ask=False).findings == ()
    assert found(lab, 300)["id"] == 3
    # what changed from then on is embedded by the recipe of the adopted tag, too
    assert [lab.cover(tag).fresh for tag in (SMALL, LARGE)] == [20, 20]
    assert model.total(64) == 1
