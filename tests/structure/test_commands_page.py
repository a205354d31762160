"""docs/commands.md and the program say the same: every command, its options and their defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import typer

from support.source import ROOT
from vecmig.cli.app import app


@cache
def _text() -> str:
    return (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


@cache
def _commands() -> dict[str, Any]:
    """Return the commands by name, those of a group by both names; one with an underscore has a twin with a dash."""
    group: Any = typer.main.get_command(app)
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        if "-" in name and name.replace("-", "_") in group.commands:
            continue
        own = getattr(command, "commands", None)
        found |= {f"{name} {other}": inner for other, inner in own.items()} if own else {name: command}
    return found


def _section(name: str) -> str:
    """Return what the page says under the headings of a command, and in a table of commands."""
    parts = re.split(r"^##+ (.*)$", _text(), flags=re.MULTILINE)[1:]
    under = [
        f"{title}\n\n{body}"
        for title, body in zip(parts[::2], parts[1::2], strict=True)
        if re.match(rf"vecmig {name}\b", title)
    ]
    return "\n\n".join(under + re.findall(rf"^\| `vecmig {name}\b.*$", _text(), re.MULTILINE))


def _options() -> Iterator[Any]:
    for name, command in _commands().items():
        for option in command.params:
            if option.opts[0].startswith("-") and option.name != "help":
                yield pytest.param(name, option, id=f"{name} {option.opts[-1]}")


def _names(option: Any, text: str) -> bool:
    return any(re.search(rf"(?<![\w-]){re.escape(spelt)}(?![\w-])", text) for spelt in option.opts)


@pytest.mark.parametrize("name", _commands())
def test_every_command_has_a_section(name: str) -> None:
    assert _section(name), f"docs/commands.md has no heading or row that begins with vecmig {name}"


@pytest.mark.parametrize(("name", "option"), list(_options()))
def test_every_option_stands_in_the_section_of_its_command_with_its_default(name: str, option: Any) -> None:
    section = _section(name)
    assert _names(option, section), f"the section of vecmig {name} does not name {' or '.join(option.opts)}"
    if isinstance(option.default, int | float | str) and not isinstance(option.default, bool):
        told = [part for part in re.split(r"\n(?=\||\* )|\n\n", section) if _names(option, part)]
        default = option.default if isinstance(option.default, str) else f"{option.default:g}"
        assert any(re.search(rf"(?<![\w.]){re.escape(default)}(?![\w])", part) for part in told), f"default: {default}"


def test_every_option_that_the_page_names_is_there() -> None:
    group: Any = typer.main.get_command(app)
    known = {"--help"} | {
        spelt
        for command in (group, *_commands().values())
        for option in command.params
        for spelt in (*option.opts, *option.secondary_opts)
    }
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*[a-z])\b", re.sub(r"```.*?```", "", _text(), flags=re.DOTALL)))
    assert len(named) > 50
    assert named - known == set()
