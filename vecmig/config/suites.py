"""Suites: queries with the records that answer them, read from evals/NAME.yaml and checked together."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vecmig.config.settings import Config
from vecmig.config.values import Problems, Value
from vecmig.errors import ConfigError, UsageError
from vecmig.text import nearest, shown

#: A record's key as the suite writes it, a text for each key column.
WrittenKey = tuple[str, ...]

#: The directory beside the script location in which suites lie.
FOLDER: Final = "evals"
#: The suite that needs no labels: vecmig makes it.
KNOWN_ITEM: Final = "known-item"
DEFAULT_K: Final = 10
_MOST_K: Final = 1_000
_FIELDS: Final = ("collection", "k", "queries")
_QUERY_FIELDS: Final = ("query", "relevant", "slice")
_GRADE: Final = re.compile(r"0|[1-9][0-9]?|100")
_RELEVANT: Final = "a list of keys, like [7, 12], or keys with grades, like {7: 3, 12: 1}"


@dataclass(frozen=True, slots=True)
class Query:
    """One query, and the records that answer it."""

    text: str
    #: How well each record answers it; 0 is judged, and no answer. At least one is above 0.
    relevant: Mapping[WrittenKey, int]
    #: The group of queries that it is also reported with.
    slice: str | None = None

    @property
    def id(self) -> str:
        """Name the query without its words: 16 hexadecimal digits of its SHA-256."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Suite:
    """Queries to one collection."""

    name: str
    path: Path
    collection: str
    #: How many records an answer has.
    k: int
    #: In the order of their texts, so that neither results nor fingerprint depend on the order of the file.
    queries: tuple[Query, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over what the suite says; names, comments and order of the file do not count."""
        queries = [
            [q.text, sorted([list(key), grade] for key, grade in q.relevant.items()), q.slice] for q in self.queries
        ]
        return hashlib.sha256(json.dumps([self.collection, self.k, queries]).encode()).hexdigest()


def suites_folder(config: Config) -> Path:
    """Return the directory of a project's suites: ``evals`` beside ``migrations``."""
    return config.script_location.parent / FOLDER


class SuiteMissing(UsageError):
    """There is no suite of the name that is asked for."""

    #: The command that makes it; None where it is to be written.
    command: str | None = None


def suite_path(config: Config, name: str) -> Path:
    """Find a suite by its name, or by the path of a file that ends with .yaml.

    Raises:
        UsageError: there is none; the message names those that there are.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    known = {path.stem: path for path in suite_paths(config)}
    name = path.stem if path.suffix in (".yaml", ".yml") else name
    if name in known:
        return known[name]
    close = nearest(name, known)
    make = f"vecmig eval --make {KNOWN_ITEM}"
    write = (
        f"Write the suite {name} as {shown(suites_folder(config) / f'{name}.yaml')}. Or name {KNOWN_ITEM} in its place,"
        f" also in a revision whose gate asks for {name}, and run: {make}"
    )
    error = SuiteMissing(f"{shown(suites_folder(config))} has no suite {name!r}; it has: {', '.join(known) or 'none'}.")
    error.command = make if name == KNOWN_ITEM and not close else None
    error.hint = f"Did you mean {close}?" if close else f"Run: {make}" if error.command else write
    raise error


def suite_paths(config: Config) -> list[Path]:
    """List the files of a project's suites, by name."""
    return sorted(suites_folder(config).glob("*.yaml"))


def load_suite(path: Path) -> Suite:
    """Read and check a suite completely.

    Raises:
        ConfigError: everything that is wrong with it, each with file and line.
    """
    from vecmig.config.yaml_nodes import read_yaml

    problems = Problems(path)
    root = read_yaml(problems)
    top = root.data if root is not None and isinstance(root.data, dict) else None
    if top is None:
        raise ConfigError(f"{shown(path)}: a suite is a mapping with {', '.join(_FIELDS)}.")
    problems.refuse_unknown(top, _FIELDS)
    collection = _collection(problems, top.get("collection"))
    k = _k(problems, top.get("k"))
    queries = _queries(problems, top.get("queries"))
    problems.raise_if_any()
    return Suite(path.stem, path, collection, k, tuple(sorted(queries, key=lambda query: query.text)))


def _collection(problems: Problems, value: Value | None) -> str:
    if value is None or not isinstance(value.data, str) or not value.data:
        problems.add(value.line if value else 1, "collection: the name of a collection is needed")
        return ""
    return value.data


def _k(problems: Problems, value: Value | None) -> int:
    number: Any = DEFAULT_K if value is None else value.data
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= _MOST_K:
        problems.add(value.line if value else 1, f"k: {number!r} is not a whole number from 1 to {_MOST_K}")
        return DEFAULT_K
    return number


def _queries(problems: Problems, value: Value | None) -> list[Query]:
    if value is None or not isinstance(value.data, list) or not value.data:
        problems.add(value.line if value else 1, "queries: a list of at least one query is needed")
        return []
    queries: list[Query] = []
    lines: dict[str, int] = {}
    for item in value.data:
        query = _query(problems, item)
        if query is None:
            continue
        if query.text in lines:
            problems.add(item.line, f"this query stands here a second time; first in line {lines[query.text]}")
        lines.setdefault(query.text, item.line)
        queries.append(query)
    return queries


def _query(problems: Problems, item: Value) -> Query | None:
    if not isinstance(item.data, dict):
        problems.add(item.line, "a query is a mapping like {query: how do I …, relevant: [7]}")
        return None
    problems.refuse_unknown(item.data, _QUERY_FIELDS)
    text = _words(problems, item, "query")
    relevant = _relevant(problems, item)
    group = _words(problems, item, "slice") if _is_there(item.data.get("slice")) else None
    return Query(text, relevant, group) if text and relevant and group != "" else None


def _is_there(value: Value | None) -> bool:
    return value is not None and value.data is not None


def _words(problems: Problems, item: Value, name: str) -> str:
    value = item.data.get(name)
    if value is None or not isinstance(value.data, str) or not value.data.strip():
        what = "is missing" if value is None else f"{value.written!r} is not a text; write it in quotes"
        problems.add(value.line if value else item.line, f"{name}: {what}")
        return ""
    return value.data


def _relevant(problems: Problems, item: Value) -> dict[WrittenKey, int]:
    value = item.data.get("relevant")
    before = len(problems.found)
    found: dict[WrittenKey, int]
    if isinstance(value, Value) and isinstance(value.data, dict):
        found = {(key,): _grade(problems, key, grade) for key, grade in value.data.items()}
    elif isinstance(value, Value) and isinstance(value.data, list):
        found = _listed(problems, value)
    else:
        problems.add(value.line if value else item.line, f"relevant: {_RELEVANT} are needed")
        return {}
    if not any(found.values()) and len(problems.found) == before:
        problems.add(value.line, "relevant: at least one record must answer the query")
    return found


def _listed(problems: Problems, value: Value) -> dict[WrittenKey, int]:
    """Read a list of keys: a scalar, a list of scalars, or either with its grade, as ``{key: [a, b], grade: 2}``."""
    found: dict[WrittenKey, int] = {}
    for item in value.data:
        grade = 1
        key: Value | None = item
        if isinstance(item.data, dict):
            key = item.data.get("key")
            grade = _grade(problems, "grade", item.data["grade"]) if "grade" in item.data else -1
        written = None if key is None or grade < 0 else _key(key)
        if written is None:
            what = "is no key; write 7, [a, b] for a key of two columns, or {key: [a, b], grade: 2}"
            problems.add(item.line, f"relevant: {item.plain()!r} {what}")
        elif written in found:
            problems.add(item.line, f"relevant: {', '.join(written)} stands here twice")
        else:
            found[written] = grade
    return found


def _key(value: Value) -> WrittenKey | None:
    parts = value.data if isinstance(value.data, list) else [value]
    if not parts or any(isinstance(part.data, dict | list) or part.data is None for part in parts):
        return None
    return tuple(part.written for part in parts)


def _grade(problems: Problems, name: str, value: Value) -> int:
    if isinstance(value.data, bool) or _GRADE.fullmatch(value.written) is None:
        problems.add(value.line, f"relevant: {name}: {value.plain()!r} is not a grade; a whole number from 0 to 100 is")
        return 1
    return int(value.written)
