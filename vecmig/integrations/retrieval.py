"""What the retrievers of all frameworks do: find the layout, write a filter as a condition, ask the reader."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vecmig.errors import UsageError
from vecmig.homes import Parameters
from vecmig.integrations.layouts import Equality, Layout, layout_of
from vecmig.reader import AsyncReader, Hit, Reader


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What is asked of a collection whatever the query is."""

    reader: Reader | AsyncReader
    collection: str
    k: int
    equalities: tuple[Equality, ...] = ()
    where: str | None = None
    params: Parameters = ()
    id_column: str | None = None
    metadata_column: str | None = None
    metadata_columns: Sequence[str] = ()

    def search(self, query: str) -> tuple[Layout, list[Hit]]:
        """Return what is nearest to a query, nearest first, and how its rows are read.

        Raises:
            UsageError: the reader is one for asyncio, or filter and layout do not fit together.
        """
        if isinstance(self.reader, AsyncReader):
            raise UsageError(
                "This retriever has an AsyncReader, which can only be awaited.",
                hint="Await ainvoke or aretrieve, or give the retriever a Reader, which serves both.",
            )
        layout = self._layout(self.reader.columns(self.collection))
        where, params = self._condition(layout)
        return layout, self.reader.search(self.collection, query, self.k, where=where, params=params)

    async def search_async(self, query: str) -> tuple[Layout, list[Hit]]:
        """Return the same; a Reader is asked in a thread."""
        if isinstance(self.reader, Reader):
            return await asyncio.to_thread(self.search, query)
        layout = self._layout(await self.reader.columns(self.collection))
        where, params = self._condition(layout)
        return layout, await self.reader.search(self.collection, query, self.k, where=where, params=params)

    def _layout(self, columns: Sequence[str]) -> Layout:
        return layout_of(
            columns,
            id_column=self.id_column,
            metadata_column=self.metadata_column,
            metadata_columns=self.metadata_columns,
        )

    def _condition(self, layout: Layout) -> tuple[str | None, Parameters]:
        """Write filter and ``where`` as one condition."""
        own, values = layout.condition(self.equalities)
        if own is None or self.where is None:
            return (self.where, self.params) if own is None else (own, values)
        if isinstance(self.params, Mapping):
            raise UsageError("A filter beside where= needs params= as a list, with %s in where= for each of them.")
        return f"{own} AND ({self.where}\n)", [*values, *self.params]
