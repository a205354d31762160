"""Reads the docstrings of Python's standard library: thousands of real records that every machine has."""

from __future__ import annotations

import ast
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

#: Folders and files that are no library for others: tests, installed packages, applications, data.
_SKIPPED: Final = frozenset(
    {"__hello__", "__phello__", "__pycache__", "dist-packages", "idlelib", "lib2to3", "pydoc_data"}
    | {"site-packages", "test", "tests", "turtledemo"}
)
_Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Record(NamedTuple):
    """One record of the corpus, ready to be inserted."""

    #: Counted from 1, in the order of reading; the same for every run on one Python.
    id: int
    #: Dotted name of the documented object, such as ``textwrap.dedent``; unique.
    title: str
    #: Its docstring, with the indentation removed; never blank.
    body: str


def read_corpus(root: Path | None = None) -> Iterator[Record]:
    """Yield the docstrings of all modules, classes, functions and methods below ``root``, each dotted name once.

    ``root`` is the standard library of the running Python unless given. Sources are parsed, never imported; a file
    that cannot be read or parsed is passed over. Nothing is yielded where the library has no sources.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    for path in _sources(root):
        for title, text in _docstrings(_module_name(path.relative_to(root)), path):
            body = _storable(text)
            if body and title not in seen:
                seen.add(title)
                yield Record(len(seen), title, body)


def _sources(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.stem in _SKIPPED or not entry.stem.isidentifier():
            continue
        if entry.is_dir():
            yield from _sources(entry)
        elif entry.suffix == ".py":
            yield entry


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _docstrings(module: str, path: Path) -> Iterator[tuple[str, str]]:
    tree = _parse(path)
    if tree is not None:
        yield module, ast.get_docstring(tree) or ""
        yield from _members(module, tree.body)


def _parse(path: Path) -> ast.Module | None:
    try:
        with tokenize.open(path) as file, warnings.catch_warnings():
            # Some sources hold escape sequences that newer Pythons warn about; they are not ours to mend.
            warnings.simplefilter("ignore")
            return ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _members(prefix: str, body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, _Documented):
            name = f"{prefix}.{node.name}"
            yield name, ast.get_docstring(node) or ""
            if isinstance(node, ast.ClassDef):
                yield from _members(name, node.body)
        elif isinstance(node, ast.If | ast.Try):
            yield from _members(prefix, [*node.body, *node.orelse])
            yield from _handlers(prefix, node)


def _handlers(prefix: str, node: ast.If | ast.Try) -> Iterator[tuple[str, str]]:
    """Yield what a module defines where an import of the C version failed."""
    if isinstance(node, ast.Try):
        for handler in node.handlers:
            yield from _members(prefix, handler.body)
        yield from _members(prefix, node.finalbody)


def _storable(text: str) -> str:
    """Leave out what PostgreSQL's text type cannot hold: NUL and lone surrogates."""
    return text.encode("utf-8", "ignore").decode().replace("\0", "").strip()
