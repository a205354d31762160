"""Every command is told in one line that an 80-column terminal shows to its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from vecmig.cli.app import app


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
