"""The public face of the package: small, sorted, and changed only on purpose."""

from __future__ import annotations

import ast
import pkgutil
from importlib import import_module
from types import ModuleType

import vecmig
from support.source import modules
from vecmig import runner

#: A name added or removed here is a change of the public interface: say so in CHANGELOG.md.
PUBLIC = ["AsyncReader", "Gate", "Migration", "MinSamples", "NoWorse", "Reader", "Trust", "VecmigError", "__version__"]


def test_public_names_are_pinned() -> None:
    assert list(vecmig.__all__) == PUBLIC


def test_public_names_are_sorted() -> None:
    assert list(vecmig.__all__) == sorted(vecmig.__all__)


def test_every_public_name_resolves() -> None:
    missing = [name for name in vecmig.__all__ if not hasattr(vecmig, name)]
    assert not missing


def test_public_objects_have_docstrings() -> None:
    silent = [name for name in vecmig.__all__ if callable(thing := getattr(vecmig, name)) and not thing.__doc__]
    assert not silent


def test_each_name_of_the_runner_has_one_place() -> None:
    """A type checker and a program find the same thing: what is imported for the one is loaded for the other."""
    tree = modules()["vecmig.runner"].tree
    for_types = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert for_types == runner._HOMES
    assert list(runner.__all__) == sorted(runner._HOMES)


def test_the_runner_yields_its_verbs_and_not_their_modules() -> None:
    for module in pkgutil.walk_packages(runner.__path__, "vecmig.runner."):
        import_module(module.name)

    assert [name for name in runner.__all__ if isinstance(getattr(runner, name), ModuleType)] == []
