"""Every command is told in one line that an 80-column terminal shows to its end."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import typer

from vecmig import cli
from vecmig.cli.app import app
from vecmig.cli.commands import FAMILIES


def _groups(group: Any, path: str = "vecmig") -> Iterator[tuple[str, Any]]:
    yield path, group
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _groups(command, f"{path} {name}")


@pytest.mark.parametrize("path", [path for path, _ in _groups(typer.main.get_command(app))])
def test_no_line_of_help_is_cut_off(path: str) -> None:
    group = dict(_groups(typer.main.get_command(app)))[path]
    context = typer.Context(group, info_name=path, max_content_width=80, terminal_width=80)
    help_text = group.get_help(context)
    lines = help_text.splitlines()
    shown = {line.split()[0] for line in lines if line.startswith("  ")}
    assert {name for name, command in group.commands.items() if not command.hidden} <= shown
    assert not [line for line in lines[1:] if line.endswith("...")]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("module", FAMILIES)
def test_a_module_has_the_commands_that_are_looked_for_there(module: str) -> None:
    family = typer.Typer()
    _module(module).register(family)
    commands = typer.main.get_group(family).commands

    assert [name for name, command in commands.items() if not command.hidden] == list(FAMILIES[module])
    assert {name.replace("_", "-") for name in commands} <= set(typer.main.get_group(app).commands)


def test_every_module_with_commands_is_looked_into() -> None:
    found = {name for _, name, _ in pkgutil.iter_modules(cli.__path__) if hasattr(_module(name), "register")}

    assert found == set(FAMILIES)


def _module(name: str) -> ModuleType:
    return import_module(f"vecmig.cli.{name}")
