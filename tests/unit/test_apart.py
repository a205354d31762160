"""A condition that separates the records of one model from those of another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.gate.apart import condition_apart


@pytest.mark.parametrize(
    ("records", "chosen", "condition"),
    [
        ([{"id": n, "model": "a" if n < 3 else "b"} for n in range(6)], [n < 3 for n in range(6)], "model = 'a'"),
        ([{"id": n, "model": None if n < 3 else "b"} for n in range(6)], [n < 3 for n in range(6)], "model IS NULL"),
        ([{"id": n, "title": f"t{n}"} for n in range(6)], [n < 2 for n in range(6)], "id < 2"),
        ([{"id": n} for n in range(6)], [n > 3 for n in range(6)], "id > 3"),
        (
            [{"Made at": f"2026-0{n + 1}-01", "x": 1} for n in range(6)],
            [n < 2 for n in range(6)],
            "\"Made at\" < '2026-03-01'",
        ),
        (
            [{"id": n, "who": "it's" if n < 2 else "b"} for n in range(4)],
            [n < 2 for n in range(4)],
            "who = 'it''s'",
        ),
        ([{"title": f"t{n}"} for n in range(6)], [n < 2 for n in range(6)], ""),
        ([{"id": n % 2} for n in range(6)], [n < 3 for n in range(6)], ""),
        ([], [], ""),
    ],
)
def test_what_separates_them(records: list[dict[str, Any]], chosen: list[bool], condition: str) -> None:
    assert condition_apart(records, chosen) == condition


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=2))
def test_no_condition_holds_for_others(rows: list[tuple[bool, int]]) -> None:
    chosen = [mine for mine, _ in rows]
    if all(chosen) or not any(chosen):
        return
    found = condition_apart([{"n": n} for _, n in rows], chosen)
    if found:
        _, operator, bound = found.split()
        holds = {"=": int.__eq__, "<": int.__lt__, ">": int.__gt__}[operator]
        assert [holds(n, int(bound)) for _, n in rows] == chosen
