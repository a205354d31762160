"""The collections and recipes of a project, read from collections.yaml and checked together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vecmig.config.known_findings import KnownFinding, read_known_findings
from vecmig.config.recipes import read_indexes, read_recipes
from vecmig.config.sql_text import fragment_problem, parse_relation
from vecmig.config.values import Problems, Value
from vecmig.errors import ConfigError, TagError
from vecmig.model.collection import (
    LIVE_OWN,
    VECTOR_COLUMNS,
    Collection,
    Hnsw,
    LiveColumns,
)
from vecmig.model.index import Index
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag
from vecmig.text import nearest, shown

#: Longest name of a collection, in bytes: its objects add a suffix and must fit PostgreSQL's 63.
MAX_NAME: Final = 40

_NAME = re.compile(r"[^\W\d](?:[\w\- ]*[\w\-])?")
#: Models whose recipe needs no address, and whose tokens are known.
_WELL_KNOWN: Final = re.compile(r"wordllama|text-embedding-(3-small|3-large|ada-002)")


@dataclass(frozen=True, slots=True)
class Collections:
    """Everything that collections.yaml says."""

    path: Path
    collections: Mapping[str, Collection]
    #: By canonical tag.
    recipes: Mapping[str, Recipe]
    #: Recipes that the database has, for what is said of tags that lost theirs here.
    recorded: Mapping[str, Recipe] = field(default_factory=dict)
    #: What an audit may find for a while.
    ignored: tuple[KnownFinding, ...] = ()

    def collection(self, name: str) -> Collection:
        """Return the collection called ``name``.

        Raises:
            ConfigError: there is none; the message names those that there are.
        """
        if name in self.collections:
            return self.collections[name]
        names = ", ".join(self.collections) or "none"
        close = nearest(name, self.collections)
        raise ConfigError(
            f"{shown(self.path)} has no collection {name!r}; it has: {names}.",
            hint=f"Did you mean {close}?" if close else f"Add it under collections: in {shown(self.path)}",
        )

    def recipe(self, tag: str) -> Recipe:
        """Return the recipe of ``tag``, whose parts may stand in any order.

        Raises:
            TagError: it is not a tag.
            ConfigError: it has no recipe; the hint gives the lines to add.
        """
        parsed = Tag.parse(tag)
        if str(parsed) in self.recipes:
            return self.recipes[str(parsed)]
        raise ConfigError(f"{shown(self.path)} has no recipe for the tag {parsed}.", hint=self.missing_recipe(parsed))

    def missing_recipe(self, tag: Tag) -> str:
        """Say what to add where ``tag`` has no recipe: that of the database where it has one, with its address."""
        known = self.recorded.get(str(tag))
        if known is None:
            return f"Add to {shown(self.path)}:\n{recipe_lines(tag)}"
        from vecmig.config.recipe_line import recipe_line

        return f"If it is as it was, add to {shown(self.path)}:\ntags:\n  {recipe_line(str(tag), known)}"


def load_collections(path: Path, recorded: Mapping[str, Recipe] | None = None) -> Collections:
    """Read and check collections.yaml completely.

    Args:
        path: the file.
        recorded: the recipes that the database has: a collection may ask for their tags, too.

    Raises:
        RecipeMissing: a tag that is asked for has no recipe, and nothing else is wrong.
        ConfigError: everything that is wrong with it, each with file and line.
    """
    from vecmig.config.yaml_nodes import read_yaml

    problems = Problems(path)
    root = read_yaml(problems)
    top = _mapping(problems, root, "the file") if root is not None else {}
    problems.refuse_unknown(top, ("collections", "tags", "ignore"))
    tags = _section(problems, top, "tags")
    recipes, indexes = read_recipes(problems, tags, recorded or {}), read_indexes(problems, tags)
    known = {**(recorded or {}), **recipes}
    collections = {
        name: collection
        for name, value in _section(problems, top, "collections").items()
        if (collection := _CollectionReader(problems, name, value, known, indexes).read()) is not None
    }
    ignored = read_known_findings(problems, top.get("ignore"))
    problems.raise_if_any()
    found = {tag: recipe for tag, recipe in recipes.items() if recipe is not None}
    return Collections(path, collections, found, recorded or {}, ignored)


def collection_names(path: Path) -> tuple[str, ...]:
    """Read which collections collections.yaml has, and check nothing else of it.

    Raises:
        ConfigError: the file is missing, or not YAML, or has no collections where they should be.
    """
    from vecmig.config.yaml_nodes import read_yaml

    problems = Problems(path)
    root = read_yaml(problems)
    top = _mapping(problems, root, "the file") if root is not None else {}
    names = tuple(_section(problems, top, "collections"))
    problems.raise_if_any()
    return names


def recipe_lines(tag: Tag) -> str:
    """Write the lines that give ``tag`` a recipe in collections.yaml."""
    return f"tags:\n  {_recipe_line(tag)}{_elsewhere(tag)}"


def _recipe_line(tag: Tag) -> str:
    provider = "wordllama" if tag.model == "wordllama" else "openai"
    unit = "characters" if _elsewhere(tag) else "tokens"
    chunk = "" if tag.chunk is None else f", chunk: {{size: {tag.chunk}, unit: {unit}, overlap: 0}}"
    return f"{tag}: {{provider: {provider}, dims: {tag.dims}{chunk}}}"


def _elsewhere(tag: Tag) -> str:
    """Say where there are recipes for a model that is neither OpenAI's nor a local one; else return nothing."""
    return "" if _WELL_KNOWN.fullmatch(tag.model) else " # docs/providers.md: recipes for other servers than OpenAI's"


def _section(problems: Problems, top: Mapping[str, Value], name: str) -> Mapping[str, Value]:
    value = top.get(name)
    return {} if value is None or value.data is None else _mapping(problems, value, name)


def _mapping(problems: Problems, value: Value, name: str) -> dict[str, Value]:
    if isinstance(value.data, dict):
        return value.data
    problems.add(value.line, f"{name} must be a mapping of names to values")
    return {}


class _CollectionReader:
    """Reads one collection and notes what is wrong with it."""

    def __init__(
        self,
        problems: Problems,
        name: str,
        value: Value,
        recipes: Mapping[str, Recipe | None],
        indexes: Mapping[str, Index],
    ) -> None:
        self._problems = problems
        self._indexes = tuple(indexes.items())
        self._name = name
        self._value = value
        self._recipes = recipes

    def read(self) -> Collection | None:
        before = len(self._problems.found)
        if _NAME.fullmatch(self._name) is None:
            self._add("", "a name begins with a letter or _ and goes on with letters, digits, _, - and spaces")
        if len(self._name.encode()) > MAX_NAME:
            self._add("", f"the name has {len(self._name.encode())} bytes; at most {MAX_NAME} are allowed")
        data = self._fields()
        values = {name: check(self, data[name].plain()) for name, check in _CHECKS.items() if name in data}
        for name in ("source", "key", "text"):
            if name not in data and isinstance(self._value.data, dict):
                self._add("", f"{name} is missing")
        if len(self._problems.found) > before:
            return None
        collection = Collection(self._name, **values, indexes=self._indexes)
        if collection.source[-1] in (f"{self._name}_vectors", f"{self._name}_live"):
            self._add(
                "source", f"{collection.source[-1]!r} is the name of an object that vecmig makes for this collection"
            )
        tag = collection.tag
        if tag is not None and (what := collection.index_problem(tag, Tag.parse(tag).dims)):
            self._add("tag", what)
        return collection

    def _fields(self) -> dict[str, Value]:
        if not isinstance(self._value.data, dict):
            self._add("", "must be a mapping with source, key and text")
            return {}
        self._problems.refuse_unknown(self._value.data, tuple(_CHECKS))
        return self._value.data

    def _add(self, field_name: str, what: str) -> None:
        value = self._value.data.get(field_name) if isinstance(self._value.data, dict) else None
        subject = f"collection {self._name}: {field_name}: " if field_name else f"collection {self._name}: "
        self._problems.add(value.line if value is not None else self._value.line, subject + what)

    def source(self, value: object) -> tuple[str, ...]:
        relation = parse_relation(value) if isinstance(value, str) else None
        if relation is None:
            self._add("source", f'{value!r} is not a table; write table, schema.table or "My Schema"."My Table"')
        elif any(len(part.encode()) > 63 for part in relation):
            self._add("source", "a name in PostgreSQL has at most 63 bytes")
        return relation or ()

    def key(self, value: object) -> tuple[str, ...]:
        names = value if isinstance(value, list) else []
        if not names or not all(isinstance(name, str) and name and "\0" not in name for name in names):
            self._add("key", f"a list of column names is needed, like {self._key_example(value)}")
            return ()
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            self._add("key", f"names the column {name!r} more than once")
        for name in dict.fromkeys(name for name in names if name in VECTOR_COLUMNS):
            self._add("key", f"the vectors table has a column {name!r} of its own; rename it in a view, as the source")
        return tuple(names)

    @staticmethod
    def _key_example(value: object) -> str:
        return f"[{value}]" if isinstance(value, str) and value else "[id]; quote a name that YAML reads otherwise"

    def text(self, value: object) -> str:
        return self._sql("text", value, "an expression over the source's columns, like \"title || ' ' || body\"")

    def where(self, value: object) -> str | None:
        return None if value is None else self._sql("where", value, 'a condition, like "published", or null')

    def _sql(self, name: str, value: object, example: str) -> str:
        if not isinstance(value, str) or not value.strip():
            self._add(name, f"SQL is needed: {example}")
        elif what := fragment_problem(value.strip()):
            self._add(name, what)
        return value.strip() if isinstance(value, str) else ""

    def tag(self, value: object) -> str | None:
        if value is None:
            return None
        try:
            tag = Tag.parse(value) if isinstance(value, str) else None
        except TagError as error:
            self._add("tag", error.message.removesuffix("."))
            return None
        if tag is None:
            self._add("tag", f"{value!r} is not a tag")
        elif str(tag) not in self._recipes:
            self._add("tag", f"there is no recipe for it; add under tags: {_recipe_line(tag)}{_elsewhere(tag)}")
            self._problems.missing += 1
        return None if tag is None else str(tag)

    def choice(self, name: str, value: object, choices: tuple[str, ...]) -> str:
        if value not in choices:
            close = nearest(value, choices) if isinstance(value, str) else ""
            hint = f"; did you mean {close}?" if close else ""
            self._add(name, f"{value!r} is not one of {', '.join(choices)}{hint}")
        return str(value)

    def live_columns(self, value: object) -> LiveColumns:
        if value is None or value == "all":
            return "all" if value else None
        names = value if isinstance(value, list) else [None]
        if not all(isinstance(name, str) and name and "\0" not in name for name in names):
            self._add("live_columns", f"{value!r} is neither all nor a list of column names, like [title, author]")
            return None
        for name in dict.fromkeys(name for name in names if name in LIVE_OWN):
            self._add("live_columns", f"the live view has a column {name!r} of its own")
        return tuple(dict.fromkeys(names))

    def hnsw(self, value: object) -> Hnsw:
        if not isinstance(value, dict):
            self._add("hnsw", "a mapping like {m: 16, ef_construction: 64} is needed")
            return Hnsw()
        self._problems.refuse_unknown(self._value.data["hnsw"].data, ("m", "ef_construction"))
        numbers = {name: number for name, number in value.items() if name in ("m", "ef_construction")}
        for name, low, high in (("m", 2, 100), ("ef_construction", 4, 1000)):
            number = numbers.get(name, low)
            if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
                self._add("hnsw", f"{name} is {number!r}; a whole number from {low} to {high} is needed")
                return Hnsw()
        hnsw = Hnsw(**numbers)
        if hnsw.ef_construction < 2 * hnsw.m:
            self._add("hnsw", f"ef_construction must be at least twice m, so {2 * hnsw.m} or more")
        return hnsw


def _choice(name: str, *choices: str) -> Callable[[_CollectionReader, object], str]:
    return lambda reader, value: reader.choice(name, value, choices)


#: The fields of a collection and what reads them.
_CHECKS: Final[dict[str, Callable[[_CollectionReader, object], Any]]] = {
    "source": _CollectionReader.source,
    "key": _CollectionReader.key,
    "text": _CollectionReader.text,
    "where": _CollectionReader.where,
    "storage": _choice("storage", "vector", "halfvec"),
    "metric": _choice("metric", "cosine", "l2", "ip"),
    "tag": _CollectionReader.tag,
    "change_tracking": _choice("change_tracking", "triggers", "scan"),
    "hnsw": _CollectionReader.hnsw,
    "live_columns": _CollectionReader.live_columns,
}
