"""Each package has a face: its ``__init__`` names the modules, or the names, that other packages may use."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from support.source import PACKAGE, ROOT, Module, modules

PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


@cache
def _face(package: str) -> frozenset[str]:
    for node in modules()[f"vecmig.{package}"].tree.body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]:
            return frozenset(ast.literal_eval(node.value))
    pytest.fail(f"vecmig/{package}/__init__.py has no __all__: name there what other packages may use")


def _uses(package: str) -> Iterator[tuple[Module, int, str, str]]:
    """Yield from where, in which line, out of which module ("" for the package itself) and what others import."""
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and node.module and module.layer != package:
                _, _, path = node.module.partition(f"vecmig.{package}")
                if node.module.split(".")[:2] == ["vecmig", package]:
                    yield from ((module, node.lineno, path.removeprefix("."), alias.name) for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_others_use_what_the_face_names(package: str) -> None:
    face = _face(package)
    past = [
        f"{module.path.relative_to(ROOT)}:{line} imports {name} from vecmig.{package}.{path}".rstrip(".")
        for module, line, path, name in _uses(package)
        if not face & {path.split(".")[0], name}
    ]
    assert not past, "\n".join(past)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_face_names_only_what_is_there(package: str) -> None:
    import importlib

    made: Any = importlib.import_module(f"vecmig.{package}")
    missing = [
        name for name in _face(package) if not hasattr(made, name) and f"vecmig.{package}.{name}" not in modules()
    ]
    assert not missing, f"vecmig/{package}/__init__.py names what is not there: {missing}"
