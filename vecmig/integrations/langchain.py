"""A retriever for LangChain: the live tag's recipe embeds the query, and documents come as its own stores give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vecmig.errors import UsageError
from vecmig.homes import Parameters
from vecmig.integrations.layouts import Equality, Layout, unknown_filter
from vecmig.integrations.retrieval import Retrieval
from vecmig.reader import AsyncReader, Hit, Reader

try:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
except ImportError as error:
    raise ImportError(
        f"vecmig.integrations.langchain needs langchain-core: {error}. Run: pip install 'vecmig[langchain]'",
        name=error.name,
    ) from error

__all__ = ["VecmigEmbeddings", "VecmigRetriever"]


class VecmigRetriever(BaseRetriever):
    """Retrieves from a collection by its live tag.

    A document has the id that LangChain gave it and the metadata that it stored; a table of your own has the key as id,
    and as metadata the columns that are named here. Under ``vecmig`` the metadata says tag, chunk and distance.
    Everything but reader and collection may also be given to one ``invoke`` or ``ainvoke``.
    """

    #: A Reader serves ``invoke`` and ``ainvoke``, an AsyncReader ``ainvoke`` alone.
    reader: Reader | AsyncReader
    collection: str
    #: How many documents.
    k: int = 4
    #: Metadata that documents must have: ``{"section": "io"}``, ``{"year": {"$in": [2025, 2026]}}``, ``{"$and": […]}``.
    filter: dict[str, Any] | None = None
    #: A condition over the source's columns, with ``%s`` for the values in ``params``.
    where: str | None = None
    params: Sequence[Any] | Mapping[str, Any] = ()
    #: The column of the id, where it is neither the key nor known to be LangChain's.
    id_column: str | None = None
    #: The column of json or jsonb that has the metadata, where it is not known to be LangChain's.
    metadata_column: str | None = None
    #: Columns that are metadata, too.
    metadata_columns: Sequence[str] = ()

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002  # LangChain gives it where it is named
        **more: Any,
    ) -> list[Document]:
        return _documents(*self._retrieval(**more).search(query))

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002  # see above
        **more: Any,
    ) -> list[Document]:
        return _documents(*await self._retrieval(**more).search_async(query))

    def _retrieval(
        self,
        *,
        k: int | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # as LangChain calls it
        where: str | None = None,
        params: Parameters | None = None,
    ) -> Retrieval:
        wanted = self.filter if filter is None else filter
        return Retrieval(
            self.reader,
            self.collection,
            self.k if k is None else k,
            tuple(_equalities(wanted or {})),
            self.where if where is None else where,
            self.params if params is None else params,
            self.id_column,
            self.metadata_column,
            self.metadata_columns,
        )


class VecmigEmbeddings(Embeddings):
    """Embeds queries by the recipe of the live tag, for a store of LangChain's that reads the live view."""

    def __init__(self, reader: Reader, collection: str) -> None:
        self._reader = reader
        self._collection = collection

    def embed_query(self, text: str) -> list[float]:
        """Embed a query."""
        return [float(number) for number in self._reader.embed(self._collection, text).vector]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:  # noqa: ARG002  # LangChain's own name
        """Refuse to embed documents: what is added to the source is embedded by vecmig.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"The live view of {self._collection} takes no documents.",
            state="Nothing was added.",
            hint="Add them to a store on the source, with its own embeddings; then: vecmig sync",
        )


def _documents(layout: Layout, hits: list[Hit]) -> list[Document]:
    return [Document(id=layout.id_of(hit), page_content=hit.text, metadata=layout.metadata_of(hit)) for hit in hits]


def _equalities(wanted: Mapping[str, Any]) -> Iterator[Equality]:
    """Read a filter of LangChain's.

    Raises:
        UsageError: it asks for more than equality.
    """
    for name, value in wanted.items():
        match name, value:
            case "$and", [*parts] if all(isinstance(part, Mapping) for part in parts):
                for part in parts:
                    yield from _equalities(part)
            case _, {"$eq": only, **rest} if not rest and not name.startswith("$"):
                yield Equality(name, [only])
            case _, {"$in": [*several], **rest} if not rest and not name.startswith("$"):
                yield Equality(name, several)
            case _ if name.startswith("$"):
                raise unknown_filter({name: value})
            case _:
                yield Equality(name, [value])
