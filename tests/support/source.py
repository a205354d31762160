"""vecmig's own source, parsed, for the tests that check its structure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "vecmig"


@dataclass(frozen=True, slots=True)
class Module:
    """One parsed file of the package."""

    #: Dotted name, such as ``vecmig.published.live_view``; a package goes by its own name, without ``__init__``.
    name: str
    path: Path
    tree: ast.Module

    @property
    def layer(self) -> str:
        """First name below ``vecmig``; empty for ``vecmig`` itself."""
        return layer_of(self.name)


@dataclass(frozen=True, slots=True)
class Import:
    """One import, wherever it stands: at the top, in a function, or as a call of ``import_module``."""

    importer: Module
    #: Dotted name of what is imported: a module, and for ``from a import b`` with a module ``a.b``, that module.
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer.path.relative_to(ROOT)}:{self.line} imports {self.target}"


def layer_of(name: str) -> str:
    """Give the first name below ``vecmig`` of a dotted name; empty for ``vecmig`` itself."""
    return name.split(".")[1] if "." in name else ""


@cache
def modules() -> dict[str, Module]:
    """Parse every module of the package; keyed by dotted name."""
    parsed = (_module(path) for path in sorted(PACKAGE.rglob("*.py")))
    return {module.name: module for module in parsed}


def _module(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, path, ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))


@cache
def imports() -> tuple[Import, ...]:
    """Every import of every module, TYPE_CHECKING ones and those inside functions included."""
    return tuple(
        Import(module, target, node.lineno)
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)
        for target in _targets(module, node)
    )


def own_imports() -> Iterator[Import]:
    """Those that import vecmig."""
    return (entry for entry in imports() if entry.target.split(".")[0] == "vecmig")


def foreign_imports() -> Iterator[Import]:
    """Those that import anything else."""
    return (entry for entry in imports() if entry.target.split(".")[0] != "vecmig")


def _targets(module: Module, node: ast.Import | ast.ImportFrom | ast.Call) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(module, node)
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            yield submodule if submodule in modules() else base
    elif _called_name(node) in ("import_module", "__import__"):
        first = node.args[0] if node.args else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return str(node.module)
    package = module.name.split(".")
    if module.path.name != "__init__.py":
        package = package[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *filter(None, [node.module])])


def _called_name(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
