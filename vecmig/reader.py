"""Search a collection by a question: the live tag's recipe embeds it, and that tag's vectors answer it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from vecmig.config import Config, load_collections, load_config
from vecmig.embedders import Embedder, open_embedder
from vecmig.errors import DatabaseError, RecipeError, UsageError
from vecmig.store.catalog import inspect_source
from vecmig.store.connect import Database
from vecmig.store.ledger import Ledger, TagRow
from vecmig.store.search import Hit, search_space
from vecmig.store.vectors import Space
from vecmig.tags import Recipe, Service, Tag

_DEFAULT: Final = Service()
_OPENAI: Final = re.compile(r"https://api\.openai\.com(:443)?(/|$)")


@dataclass
class Reader:
    """Reads of an application. Recipes and routes come from the database, so it needs no project files.

    It sees what its database role may see: grants and row-level security hold. A recipe that the database alone vouches
    for may neither run a function of this machine nor say where a secret of its environment goes; ``recipes`` may.
    """

    database_url: str = field(repr=False)
    schema: str = "vecmig"
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    #: How providers are reached, by tag, where the database is not to say it.
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    _embedders: dict[str, Embedder] = field(default_factory=dict, repr=False)

    @classmethod
    def from_config(cls, path: str | Path = "vecmig.ini") -> Self:
        """Open a reader on the database that a project's vecmig.ini names, with its collections.yaml."""
        return cls.for_project(load_config(Path(path)))

    @classmethod
    def for_project(cls, config: Config) -> Self:
        """Open a reader for a project whose configuration is loaded."""
        recipes = load_collections(config.collections_path).recipes
        return cls(config.database_url, config.schema, recipes=recipes)

    def live_tag(self, collection: str) -> str:
        """Give the tag that reads of a collection use.

        Raises:
            DatabaseError: none is live, or the collection is unknown.
        """
        with self._database.session() as connection:
            return _live_tag(Ledger(connection, self.schema), collection)

    def search(self, collection: str, text: str, k: int = 10, *, tag: str | None = None) -> list[Hit]:
        """Give the k chunks nearest to a question, nearest first.

        Args:
            collection: what to search.
            text: the question; the tag's own recipe embeds it, query prompt included.
            k: how many.
            tag: another tag than the live one, its parts in any order.

        Raises:
            DatabaseError: no tag is live, or ``tag`` is not one of the collection's.
            TagError: ``tag`` is no tag.
            RecipeError: the database alone has the recipe, and it is one of those that it is not believed.
            EmbedderError: the question could not be embedded.
        """
        if k < 1:
            raise UsageError(f"k is {k}; at least 1 is needed.")
        with self._database.session() as connection:
            ledger = Ledger(connection, self.schema)
            row = ledger.tag(collection, str(Tag.parse(tag)) if tag else _live_tag(ledger, collection))
            if row.state == "retired":
                raise DatabaseError(f"The vectors of {row.tag} were retired.", hint="Look at: vecmig status")
            source = inspect_source(connection, ledger.collection(collection))
            # autocommit: no transaction is open while the provider is asked
            embedder = self._embedders.get(row.tag)
            if embedder is None:
                embedder = self._embedders[row.tag] = open_embedder(row.tag, self._recipe(row), environ=self.environ)
            vector = embedder.embed_queries([text])[0]
            return search_space(connection, Space(source, self.schema, row.tag), vector, k)

    def close(self) -> None:
        """Let go of the embedders."""
        for embedder in self._embedders.values():
            embedder.close()
        self._embedders.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _recipe(self, row: TagRow) -> Recipe:
        own = self.recipes.get(row.tag)
        if own is not None and own.fingerprint == row.fingerprint:
            return own
        _refuse_unvouched(row, self.environ)
        return row.recipe

    @property
    def _database(self) -> Database:
        return Database(self.database_url, self.schema, application_name="vecmig reader", sees_all=False)


def _refuse_unvouched(row: TagRow, environ: Mapping[str, str]) -> None:
    """Refuse a recipe by which whoever may write to ``vecmig.tag`` could run code here, or collect secrets."""
    service = row.recipe.service
    url = service.base_url or ""
    if row.recipe.provider == "python":
        problem = f"runs the function {row.recipe.callable}"
    elif "${" in url:
        problem = "puts environment variables into base_url"
    elif service.api_key_env != _DEFAULT.api_key_env:
        problem = f"sends the variable {service.api_key_env} as the key"
    elif url and environ.get(service.api_key_env) and not _OPENAI.match(url):
        problem = f"sends the variable {service.api_key_env} to another server than OpenAI's"
    else:
        return
    raise RecipeError(
        f"The recipe of {row.tag}, as the database alone has it, {problem}.",
        state="Nothing was run or sent.",
        hint="Use Reader.from_config, with the recipe in collections.yaml, or pass recipes= to say that it is yours.",
    )


def _live_tag(ledger: Ledger, collection: str) -> str:
    ledger.collection(collection)
    live = ledger.route(collection).live
    if live is None:
        raise DatabaseError(f"No tag of {collection} is live.", hint="Run: vecmig upgrade head")
    return live
