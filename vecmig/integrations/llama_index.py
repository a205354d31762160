"""A retriever for LlamaIndex: the live tag's recipe embeds the query, and nodes come as its own store gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vecmig.homes import Parameters
from vecmig.integrations.layouts import OWN, Equality, Layout, unknown_filter
from vecmig.integrations.retrieval import Retrieval
from vecmig.reader import AsyncReader, Hit, Reader

try:
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle, TextNode
    from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilters
    from llama_index.core.vector_stores.utils import metadata_dict_to_node
except ImportError as error:
    raise ImportError(
        f"vecmig.integrations.llama_index needs llama-index-core: {error}. Run: pip install 'vecmig[llama-index]'",
        name=error.name,
    ) from error

__all__ = ["VecmigRetriever"]


class VecmigRetriever(BaseRetriever):
    """Retrieves from a collection by its live tag.

    A node of a table that LlamaIndex filled is the one that was stored, with its id, metadata and relationships; of a
    table of your own its id is the key, and its metadata are the columns that are named here. Under ``vecmig`` the
    metadata says tag, chunk and distance, which neither a prompt nor an embedder gets to see.
    """

    def __init__(
        self,
        reader: Reader | AsyncReader,
        collection: str,
        *,
        similarity_top_k: int = 2,
        filters: MetadataFilters | None = None,
        where: str | None = None,
        params: Parameters = (),
        id_column: str | None = None,
        metadata_column: str | None = None,
        metadata_columns: Sequence[str] = (),
        **more: Any,
    ) -> None:
        """Ask for nothing yet.

        Args:
            reader: a Reader serves ``retrieve`` and ``aretrieve``, an AsyncReader ``aretrieve`` alone.
            collection: what to search.
            similarity_top_k: how many nodes.
            filters: metadata that nodes must have: operators ``==`` and ``in``, joined by ``and``.
            where: a condition over the source's columns, with ``%s`` for the values in ``params``.
            params: the values of its placeholders.
            id_column: the column of the id, where it is neither the key nor known to be LlamaIndex's.
            metadata_column: the column of json or jsonb that has the metadata, where it is not LlamaIndex's own.
            metadata_columns: columns that are metadata, too.
            more: what LlamaIndex's BaseRetriever takes.

        Raises:
            UsageError: ``filters`` ask for more than equality.
        """
        self._retrieval = Retrieval(
            reader,
            collection,
            similarity_top_k,
            tuple(_equalities(filters)) if filters is not None else (),
            where,
            params,
            id_column,
            metadata_column,
            metadata_columns,
        )
        super().__init__(**more)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _nodes(*self._retrieval.search(query_bundle.query_str))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _nodes(*await self._retrieval.search_async(query_bundle.query_str))


def _nodes(layout: Layout, hits: list[Hit]) -> list[NodeWithScore]:
    return [NodeWithScore(node=_node(layout, hit), score=hit.score) for hit in hits]


def _node(layout: Layout, hit: Hit) -> BaseNode:
    metadata = layout.metadata_of(hit)
    own = metadata.pop(OWN)
    if "_node_content" in metadata:
        node = metadata_dict_to_node(metadata)
        node.set_content(hit.text)
    else:
        node = TextNode(id_=layout.id_of(hit), text=hit.text, metadata=metadata)
    node.metadata = {**node.metadata, OWN: own}
    node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, OWN]
    node.excluded_llm_metadata_keys = [*node.excluded_llm_metadata_keys, OWN]
    return node


def _equalities(filters: MetadataFilters) -> Iterator[Equality]:
    """Read filters of LlamaIndex's.

    Raises:
        UsageError: they ask for more than equality.
    """
    if filters.condition not in (FilterCondition.AND, None) and len(filters.filters) > 1:
        raise unknown_filter(filters)
    for each in filters.filters:
        if isinstance(each, MetadataFilters):
            yield from _equalities(each)
        elif each.operator == FilterOperator.EQ:
            yield Equality(each.key, [each.value])
        elif each.operator == FilterOperator.IN and isinstance(each.value, list):
            yield Equality(each.key, each.value)
        else:
            raise unknown_filter(each)
