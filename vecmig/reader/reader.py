"""Search a collection by a query: the live tag's recipe embeds it, and that tag's vectors answer it."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike

from vecmig.config import Config, load_config
from vecmig.config.collections import load_collections
from vecmig.errors import UsageError, VecmigError
from vecmig.homes import Hit, Parameters
from vecmig.model.recipe import Recipe
from vecmig.postgres.locks import watched
from vecmig.postgres.sessions import Database, Engine, database_at
from vecmig.published.pool import AsyncPool, Pool
from vecmig.reader.embedding import Embedders
from vecmig.reader.query_cache import QueryCache
from vecmig.reader.shadow import Shadow
from vecmig.reader.snapshots import Snapshots, live_tag_of
from vecmig.reader.steps import (
    Embedded,
    EmbedQuery,
    LoadSnapshot,
    ReadDigest,
    Reconnect,
    RunSearch,
    SearchRequest,
    Step,
    embed,
    search,
)

#: Queries whose vectors are kept.
_REMEMBERED: Final = 1_000
_CONNECTIONS: Final = 10


class _Held:
    """What a reader has open in one process."""

    def __init__(self, database: Database, embedders: Embedders, remembered: int) -> None:
        self.process = os.getpid()
        self.snapshots = Snapshots(database)
        self.query_cache = QueryCache(remembered)
        self.embedders = embedders
        self.shadow = Shadow(database, embedders.embed)
        self.pool: Any = None
        #: The event loop that the pool belongs to.
        self.loop: Any = None
        self.opening = threading.Lock()

    def end(self, *, wait: bool = True) -> None:
        """End the threads."""
        if self.process == os.getpid():
            self.snapshots.close(wait=wait)
            self.shadow.close(wait=wait)


class _Shared:
    """What both readers are: a database, its routes, and the embedders of its tags."""

    def __init__(
        self,
        database: str | Engine,
        schema: str = "vecmig",
        *,
        environ: Mapping[str, str] | None = None,
        recipes: Mapping[str, Recipe] | None = None,
        remembered: int = _REMEMBERED,
        connections: int = _CONNECTIONS,
    ) -> None:
        """Open nothing yet: connections are made when they are first needed.

        Args:
            database: a PostgreSQL URL, or ``embedded:`` and a directory; or an engine of SQLAlchemy's, which opens each
                connection, but has none of them in its own pool.
            schema: where vecmig's own tables are.
            environ: where the keys of providers are looked up; else the process's environment.
            recipes: how providers are reached, by tag, where the database is not to say it.
            remembered: of how many queries the vectors are kept.
            connections: the most that searches have open at once; one more listens, and one is for shadow reads.
        """
        self._environ = os.environ if environ is None else environ
        self._recipes = recipes or {}
        self._remembered = remembered
        self._connections = connections
        self._database = database_at(database, schema, application_name="vecmig reader", sees_all=False)
        self._inherited: list[_Held] = []
        self._closed = False
        self._own = self._new()

    @classmethod
    def from_config(cls, path: str | Path = "vecmig.ini") -> Self:
        """Open a reader on the database that a project's vecmig.ini names, with its collections.yaml."""
        return cls.for_project(load_config(Path(path)))

    @classmethod
    def for_project(cls, config: Config) -> Self:
        """Open a reader for a project whose configuration is loaded."""
        recipes = load_collections(config.collections_path).recipes
        reader = cls(config.database_engine or config.database_url, config.schema, recipes=recipes)
        if config.on_wait is not None:
            reader._database = watched(reader._database, lock_wait=config.lock_wait, tell=config.on_wait)
            reader._own = reader._new()
        return reader

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._database.safe_url!r})"

    @property
    def shadow_lost(self) -> int:
        """How many shadow reads were dropped: too many at once, or they could not be made or kept."""
        return self._own.shadow.lost

    @property
    def _held(self) -> _Held:
        if self._closed:
            raise UsageError("The reader is closed.")
        if self._own.process != os.getpid():
            # A fork takes no threads along and shares the parent's sockets: they are kept, and left alone.
            self._inherited.append(self._own)
            self._own = self._new()
        return self._own

    def _new(self) -> _Held:
        held = _Held(self._database, Embedders(self._recipes, self._environ), self._remembered)
        # a reader that is forgotten without close() leaves no thread behind
        weakref.finalize(self, held.end, wait=False)
        return held

    def _release(self) -> Any:
        """End everything but the pool, which is given."""
        held, self._closed = self._own, True
        if held.process != os.getpid():
            return None
        held.end()
        held.embedders.close()
        pool, held.pool = held.pool, None
        return pool


class Reader(_Shared):
    """Reads of an application. Recipes and routes come from the database, so it needs no project files.

    It sees what its database role may see: grants and row-level security hold. A recipe that only the database has
    may neither run a function of this machine nor say where a secret of its environment goes; ``recipes`` may.
    Any thread may use it.
    """

    def live_tag(self, collection: str) -> str:
        """Return the tag that reads of a collection use.

        Raises:
            DatabaseError: none is live, or the collection is unknown.
        """
        snapshots = self._held.snapshots
        return live_tag_of(snapshots.get(collection) or snapshots.load(collection))

    def columns(self, collection: str) -> tuple[str, ...]:
        """Return the names of the source's columns, which ``where`` may name and a hit's ``record`` has."""
        snapshots = self._held.snapshots
        return (snapshots.get(collection) or snapshots.load(collection)).source.columns

    def search(
        self,
        collection: str,
        text: str,
        k: int = 10,
        *,
        where: str | None = None,
        params: Parameters = (),
        tag: str | None = None,
        ef_search: int | None = None,
        caller: str | None = None,
    ) -> list[Hit]:
        """Return the k chunks nearest to a query, nearest first.

        Args:
            collection: what to search.
            text: the query; the tag's own recipe embeds it, query prompt included.
            k: how many.
            where: a condition over the source's columns, such as ``tenant_id = %s``.
            params: the values of its placeholders.
            tag: another tag than the live one, its parts in any order.
            ef_search: how many candidates HNSW keeps, for this search alone.
            caller: whose request it is, while a share of the traffic goes to the candidate.

        Raises:
            DatabaseError: no tag is live, or ``tag`` is not one of the collection's.
            TagError: ``tag`` is no tag.
            UsageError: ``where`` and ``params`` do not fit together.
            ConditionError: the database refuses ``where``, or the values that came with it.
            RecipeError: only the database has the recipe, and it is not trusted.
            EmbedderError: the query could not be embedded.
        """
        return self._answer(SearchRequest(collection, k, text, None, tag, where, params, ef_search, caller))

    def search_vector(
        self,
        collection: str,
        vector: ArrayLike,
        *,
        tag: str,
        k: int = 10,
        where: str | None = None,
        params: Parameters = (),
        ef_search: int | None = None,
    ) -> list[Hit]:
        """Return the k chunks nearest to a vector of shape (dims,) that was made by the recipe of ``tag``."""
        numbers = np.asarray(vector, dtype=np.float32)
        return self._answer(SearchRequest(collection, k, None, numbers, tag, where, params, ef_search))

    def embed(self, collection: str, text: str, *, tag: str | None = None) -> Embedded:
        """Embed a query by the recipe of the live tag, or of another; for searches in SQL of your own.

        Give its ``tag`` to the search function or the live view with it: then a cutover in between gives no wrong rows.
        No ramp leads to another tag, and the vector is yours to change.
        """
        held = self._held
        embedded = self._follow(
            held, embed(SearchRequest(collection, text=text, tag=tag), held.snapshots.get, held.query_cache)
        )
        return Embedded(*embedded)

    def close(self) -> None:
        """Let go of connections and embedders."""
        pool = self._release()
        if pool is not None:
            pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self, request: SearchRequest) -> list[Hit]:
        held = self._held
        answer = self._follow(held, search(request, held.snapshots.get, held.query_cache))
        held.shadow.consider(request, answer)
        hits: list[Hit] = answer.hits
        return hits

    def _follow(self, held: _Held, steps: Generator[Step, Any, Any]) -> Any:
        """Do what is to be done; give what comes of it."""
        advance = partial(next, steps)
        while True:
            try:
                step = advance()
            except StopIteration as end:
                return end.value
            try:
                advance = partial(steps.send, self._do(held, step))
            except VecmigError as error:
                advance = partial(steps.throw, error)

    def _do(self, held: _Held, step: Step) -> Any:
        match step:
            case RunSearch():
                return self._pool(held).fetch(step.search, step.values)
            case ReadDigest():
                return self._pool(held).stamp(step.collection)
            case EmbedQuery():
                return held.embedders.embed(step.row, step.text)
            case LoadSnapshot():
                return held.snapshots.load(step.collection, again=step.again)
            case Reconnect():
                return self._pool(held).mend()

    def _pool(self, held: _Held) -> Pool:
        if held.pool is None:
            with held.opening:
                if held.pool is None:
                    held.pool = Pool(self._database, self._connections)
        pool: Pool = held.pool
        return pool


class AsyncReader(_Shared):
    """The same for asyncio: searches are awaited; looking up a route and asking an embedder happen in threads."""

    async def live_tag(self, collection: str) -> str:
        """Return the tag that reads of a collection use, as ``Reader.live_tag`` does."""
        snapshots = self._held.snapshots
        snapshot = snapshots.get(collection)
        return live_tag_of(await asyncio.to_thread(snapshots.load, collection) if snapshot is None else snapshot)

    async def columns(self, collection: str) -> tuple[str, ...]:
        """Return the names of the source's columns, as ``Reader.columns`` does."""
        snapshots = self._held.snapshots
        snapshot = snapshots.get(collection)
        return (await asyncio.to_thread(snapshots.load, collection) if snapshot is None else snapshot).source.columns

    async def search(
        self,
        collection: str,
        text: str,
        k: int = 10,
        *,
        where: str | None = None,
        params: Parameters = (),
        tag: str | None = None,
        ef_search: int | None = None,
        caller: str | None = None,
    ) -> list[Hit]:
        """Return the k chunks nearest to a query, as ``Reader.search`` does."""
        return await self._answer(SearchRequest(collection, k, text, None, tag, where, params, ef_search, caller))

    async def search_vector(
        self,
        collection: str,
        vector: ArrayLike,
        *,
        tag: str,
        k: int = 10,
        where: str | None = None,
        params: Parameters = (),
        ef_search: int | None = None,
    ) -> list[Hit]:
        """Return the k chunks nearest to a vector, as ``Reader.search_vector`` does."""
        numbers = np.asarray(vector, dtype=np.float32)
        return await self._answer(SearchRequest(collection, k, None, numbers, tag, where, params, ef_search))

    async def embed(self, collection: str, text: str, *, tag: str | None = None) -> Embedded:
        """Embed a query, as ``Reader.embed`` does."""
        held = self._held
        embedded = await self._follow(
            held, embed(SearchRequest(collection, text=text, tag=tag), held.snapshots.get, held.query_cache)
        )
        return Embedded(*embedded)

    async def close(self) -> None:
        """Let go of connections and embedders."""
        loop = self._own.loop
        pool = await asyncio.to_thread(self._release)
        if pool is not None and loop is asyncio.get_running_loop():
            await pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _answer(self, request: SearchRequest) -> list[Hit]:
        held = self._held
        answer = await self._follow(held, search(request, held.snapshots.get, held.query_cache))
        held.shadow.consider(request, answer)
        hits: list[Hit] = answer.hits
        return hits

    async def _follow(self, held: _Held, steps: Generator[Step, Any, Any]) -> Any:
        advance = partial(next, steps)
        while True:
            try:
                step = advance()
            except StopIteration as end:
                return end.value
            try:
                advance = partial(steps.send, await self._do(held, step))
            except VecmigError as error:
                advance = partial(steps.throw, error)

    async def _do(self, held: _Held, step: Step) -> Any:
        match step:
            case RunSearch():
                return await self._pool(held).fetch(step.search, step.values)
            case ReadDigest():
                return await self._pool(held).stamp(step.collection)
            case EmbedQuery():
                return await asyncio.to_thread(held.embedders.embed, step.row, step.text)
            case LoadSnapshot():
                return await asyncio.to_thread(held.snapshots.load, step.collection, again=step.again)
            case Reconnect():
                return await self._pool(held).mend()

    def _pool(self, held: _Held) -> AsyncPool:
        loop = asyncio.get_running_loop()
        if held.loop is not loop:
            # connections serve the loop that made them; where each request has a loop of its own, so each has a pool
            held.pool, held.loop = AsyncPool(self._database, self._connections), loop
        pool: AsyncPool = held.pool
        return pool
