"""Columns fit 80 characters without ever cutting a word, and JSON takes the values that vecmig has."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.cells import cell_len

from vecmig.cli import render

ROWS = [
    ["wordllama@0.4/dim-64/chunk-none/norm-l2", "7,421", "live and serving all of the reads of the application"],
    ["text@1/dim-3", "12", "building"],
]


def test_columns_side_by_side() -> None:
    lines = render.column_lines(ROWS, heads=["tag", "records", "state"], right=frozenset({1}), width=200)
    assert lines == [
        "tag                                      records  state",
        "wordllama@0.4/dim-64/chunk-none/norm-l2    7,421  live and serving all of the reads of the application",
        "text@1/dim-3                                  12  building",
    ]


def test_a_long_last_column_is_wrapped_under_itself() -> None:
    lines = render.column_lines(ROWS, heads=["tag", "records", "state"], width=80)
    assert max(map(len, lines)) <= 80
    assert lines[2] == " " * 50 + "reads of the application"


def test_rows_become_blocks_where_there_is_no_room() -> None:
    lines = render.column_lines(ROWS, heads=["tag", "records", "state"], width=60)
    assert lines[:3] == [f"tag: {ROWS[0][0]}", "records: 7,421", f"state: {ROWS[0][2]}"]
    assert lines[3] == ""


def test_nothing_is_ever_cut() -> None:
    for width in (1, 10, 40, 60, 80, 200):
        text = " ".join(render.column_lines(ROWS, heads=["tag", "records", "state"], width=width)).split()
        assert {word for row in ROWS for cell in row for word in cell.split()} <= set(text)


def test_what_is_drawn_is_never_wider_than_its_screen() -> None:
    with render.taken(10) as lines:
        render.line("a few words, and 長い言葉の文字列 in one, " + "x" * 25)
    assert max(map(cell_len, lines)) <= 10
    assert "".join("".join(lines).split()) == "afewwords,and長い言葉の文字列inone," + "x" * 25


def test_a_command_stays_in_one_piece() -> None:
    text = "to go back, which takes less than a second, run: vecmig downgrade -1 --reason why"
    assert render.broken(text, 60) == [
        "to go back, which takes less than a second, run:",
        "vecmig downgrade -1 --reason why",
    ]


def test_json_takes_dates_and_paths(capsys: pytest.CaptureFixture[str]) -> None:
    render.as_json({"at": datetime(2026, 1, 2, tzinfo=UTC), "path": Path("a/b"), "ids": frozenset({"b", "a"})})
    assert capsys.readouterr().out == (
        '{\n  "at": "2026-01-02T00:00:00+00:00",\n  "path": "a/b",\n  "ids": [\n    "a",\n    "b"\n  ]\n}\n'
    )


def test_json_has_no_number_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    render.as_json({"key": [float("nan"), float("-inf"), 1.5], "more": ({"key": (float("inf"),)},)})
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found == {"key": ["nan", "-inf", 1.5], "more": [{"key": ["inf"]}]}
