"""What vecmig can do is written down: commands, exit codes, configuration, and the two lines that start it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
import typer

from support.source import ROOT
from vecmig import errors, runner
from vecmig.cli.app import app
from vecmig.config import Config

#: Fields of Config that go by another name in vecmig.ini, and those that do not stand there.
OPTION_NAMES = {"collections_path": "collections"}
NOT_OPTIONS = {"path", "x", "max_cost", "on_wait", "database_engine", "wait_for_batches"}

DEMO = "python3.11 -m venv .venv && .venv/bin/pip install -e '.[embedded]' && .venv/bin/vecmig demo"
TESTS = "python3.11 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest"


@cache
def _text() -> str:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def _commands() -> list[str]:
    return sorted(getattr(typer.main.get_command(app), "commands", {}))


def _exit_codes() -> list[int]:
    return sorted({0, *(error.exit_code for error in _tree(errors.VecmigError))})


def _tree(error: type[errors.VecmigError]) -> Iterator[type[errors.VecmigError]]:
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


def _options() -> list[str]:
    return [OPTION_NAMES.get(field.name, field.name) for field in fields(Config) if field.name not in NOT_OPTIONS]


def test_there_are_commands() -> None:
    assert {"init", "revision", "upgrade", "downgrade", "status", "search", "demo"} <= set(_commands())


@pytest.mark.parametrize("command", _commands())
def test_every_command_is_documented(command: str) -> None:
    assert re.search(rf"vecmig {re.escape(command)}\b", _text()), f"no page says `vecmig {command}`"


@pytest.mark.parametrize("code", _exit_codes())
def test_every_exit_code_is_documented(code: int) -> None:
    row = rf"^\| *`?{code}`? *\|"
    assert re.search(row, _text(), re.MULTILINE), f"no table has a row that begins with | {code} |"


@pytest.mark.parametrize("option", _options())
def test_every_option_is_documented(option: str) -> None:
    written = rf"`{option}`|^{option} *="
    assert re.search(written, _text(), re.MULTILINE), f"no page names the option `{option}`"


@pytest.mark.parametrize("line", [DEMO, TESTS], ids=["demo", "tests"])
def test_readme_has_the_commands_that_are_checked(line: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert line in [written.strip() for written in readme.splitlines()]


def _headings(page: Path) -> set[str]:
    """Return what a link to a heading ends with, as GitHub makes it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").rglob("*.md"))
    links = [
        (page, target, page.parent / path if path else page, heading)
        for page in pages
        for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:", target)
        for path, _, heading in [target.partition("#")]
    ]
    assert any(heading for *_, heading in links)
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page, target, file, heading in links
        if not file.exists() or (heading and heading not in _headings(file))
    ]
    assert not broken


def test_changelog_has_a_section_for_what_comes_next() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", runner.__all__)
def test_the_page_for_python_names_every_function_and_record(name: str) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", page), f"docs/python.md does not name {name}"


RUNBOOK = ROOT / "docs" / "runbook.md"
#: What each page of the runbook has, in this order.
PARTS = ["Seen", "Look", "Run", "Never"]


def _pages_of_the_runbook() -> dict[str, list[str]]:
    """Return by heading the parts of each page: exit codes, checks and alerts."""
    text = RUNBOOK.read_text(encoding="utf-8")
    sections = re.split(r"^##+ (.*)$", text, flags=re.MULTILINE)[1:]
    return {
        title: re.findall(r"^\* \*\*(\w+)\*\*:", body, re.MULTILINE)
        for title, body in zip(sections[::2], sections[1::2], strict=True)
    }


def test_every_page_of_the_runbook_has_its_four_parts() -> None:
    pages = {title: parts for title, parts in _pages_of_the_runbook().items() if not title.startswith("By ")}
    assert len(pages) > 20
    assert {title: parts for title, parts in pages.items() if parts != PARTS} == {}


@pytest.mark.parametrize("code", [code for code in _exit_codes() if code])
def test_the_runbook_has_a_page_for_every_exit_code(code: int) -> None:
    assert [title for title in _pages_of_the_runbook() if title.startswith(f"Exit code {code}:")]


def test_the_runbook_has_a_page_for_every_check_of_the_gate() -> None:
    table = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8").split("## The checks")[1].split("\n\n")[1]
    # an eval is named after its suite
    checks = [name.removesuffix(" SUITE METRIC") for name in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)]
    assert len(checks) == 14
    assert set(checks) <= set(_pages_of_the_runbook())
