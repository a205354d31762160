"""How figures are written: exact where they can be, never better than they are, and one way each."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig import text

#: Counts of records: of as many, a share is exact.
COUNTS = st.integers(0, 10**10)
SHARES = st.floats(0, 1)


def _figure(written: str) -> Decimal:
    """Read a percentage as the least that it may stand for."""
    number, sign = written.split(" ")
    assert sign == "%"
    return Decimal(0) if number.startswith("<") else Decimal(number)


@pytest.mark.parametrize(
    ("part", "whole", "written"),
    [
        (57, 100, "57 %"),
        (99_996, 100_000, "99.99 %"),
        (7_594, 7_596, "99.97 %"),
        (7_596, 7_596, "100 %"),
        (199, 200, "99.5 %"),
        (1, 3, "33.33 %"),
        (0, 9, "0 %"),
        (1, 10_000_000, "<0.01 %"),
        (9_999_999_999, 10_000_000_000, "99.99 %"),
        (10**17 - 1, 10**17, "99.99 %"),
        (0, 0, "100 %"),
    ],
)
def test_percent_of_counts(part: int, whole: int, written: str) -> None:
    assert text.percent_of(part, whole) == written


@pytest.mark.parametrize(
    ("share", "written"),
    [
        (0.57, "57 %"),
        (0.29, "29 %"),
        (0.995, "99.5 %"),
        (0.99996, "99.99 %"),
        (1.0, "100 %"),
        (1e-7, "<0.01 %"),
        (0, "0 %"),
    ],
)
def test_percent_of_a_share(share: float, written: str) -> None:
    assert text.percent(share) == written


@pytest.mark.parametrize(
    ("share", "written"), [(0.005, "0.5 %"), (0.00001, "0.01 %"), (0.0, "0 %"), (0.07, "7 %"), (0.070001, "7.01 %")]
)
def test_percent_that_must_stay_small(share: float, written: str) -> None:
    assert text.percent_up(share) == written


@given(part=COUNTS, missing=COUNTS.filter(bool))
def test_percent_is_never_more_than_it_is(part: int, missing: int) -> None:
    whole = part + missing
    written = _figure(text.percent_of(part, whole))
    assert written < 100
    exact = Fraction(100 * part, whole)
    assert Fraction(written) <= exact < Fraction(written) + Fraction(1, 100)


@given(whole=st.integers(1, 10**10), hundredths=st.integers(0, 100))
def test_percent_is_exact_where_it_is_a_whole_number(whole: int, hundredths: int) -> None:
    assert text.percent_of(hundredths * whole, 100 * whole) == f"{hundredths} %"
    assert text.percent(hundredths / 100) == f"{hundredths} %"
    assert text.percent_up(hundredths / 100) == f"{hundredths} %"


@given(whole=st.integers(1, 10**10), part=st.data())
def test_a_share_of_two_counts_is_written_as_the_counts_are(whole: int, part: st.DataObject) -> None:
    counted = part.draw(st.integers(0, whole))
    assert text.percent(counted / whole) == text.percent_of(counted, whole)


@given(one=SHARES, other=SHARES)
def test_percent_is_monotone(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert _figure(text.percent(low)) <= _figure(text.percent(high))
    assert _figure(text.percent_up(low)) <= _figure(text.percent_up(high))
    assert _figure(text.percent(one)) <= _figure(text.percent_up(one))


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0 s"),
        (0.000_4, "0.4 ms"),
        (0.006_2, "6.2 ms"),
        (0.031, "31 ms"),
        (0.099_6, "0.1 s"),
        (0.2, "0.2 s"),
        (0.25, "0.25 s"),
        (0.996, "1 s"),
        (1.0, "1 s"),
        (1.24, "1.2 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3_599.7, "1 h"),
        (3_900, "1 h 5 min"),
        (47.9 * 3_600, "47 h 54 min"),
        (51 * 3_600, "2 d 3 h"),
        (1_000 * 86_400, "1,000 d"),
    ],
)
def test_durations(seconds: float, written: str) -> None:
    assert text.duration(seconds) == written


_SECONDS = {"ms": 0.001, "s": 1, "min": 60, "h": 3_600, "d": 86_400}


def _seconds(written: str) -> float:
    words = written.replace(",", "").split(" ")
    return sum(float(number) * _SECONDS[unit] for number, unit in zip(words[::2], words[1::2], strict=True))


@given(st.floats(0.001, 1e9))
def test_a_duration_says_nearly_how_long_it_is(seconds: float) -> None:
    assert _seconds(text.duration(seconds)) == pytest.approx(seconds, rel=0.05)


@given(one=st.floats(0, 1e9), other=st.floats(0, 1e9))
def test_durations_are_monotone(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert _seconds(text.duration(low)) <= _seconds(text.duration(high)) + 1e-9


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "0 kB"),
        (512 * 1024, "512 kB"),
        (1_536, "1.5 kB"),
        (2**20, "1 MB"),
        (2**30 - 2**20, "1,023 MB"),
        (3 * 2**29, "1.5 GB"),
    ],
)
def test_sizes(number: int, written: str) -> None:
    assert text.data_size(number) == written


@pytest.mark.parametrize(("number", "written"), [(0, "0"), (7_596, "7,596"), (0.5, "0.5"), (1_234_567, "1,234,567")])
def test_counts(number: float, written: str) -> None:
    assert text.count(number) == written


@pytest.mark.parametrize(
    ("number", "written"),
    [(0, "0 requests"), (1, "1 request"), (2, "2 requests"), (7_596, "7,596 requests"), (0.5, "0.5 requests")],
)
def test_counted_nouns(number: float, written: str) -> None:
    assert text.counted(number, "request") == written


def test_irregular_nouns() -> None:
    assert [text.counted(number, "query", "queries") for number in (1, 2)] == ["1 query", "2 queries"]


def test_near_misses() -> None:
    known = ["documents", "articles"]
    assert text.unknown("collection", "document", known) == "unknown collection 'document'; did you mean documents?"
    assert text.unknown("collection", "xyz", known) == "unknown collection 'xyz'; known: documents, articles"


@pytest.mark.parametrize(
    ("usd", "written"),
    [
        (0, "$0.00"),
        (1_234.567, "$1,234.57"),
        (0.5, "$0.50"),
        (0.1, "$0.10"),
        (0.9984, "$0.9984"),
        (0.0126, "$0.0126"),
        (0.0001, "$0.0001"),
        (0.000_099, "$0.000099"),
        (0.000_04, "$0.000040"),
        (0.000_000_123, "$0.00000012"),
    ],
)
def test_amounts_of_money(usd: float, written: str) -> None:
    assert text.money(usd) == written


@given(st.floats(min_value=1e-12, max_value=1e6))
def test_no_amount_is_rounded_to_nothing(usd: float) -> None:
    assert float(text.money(usd).replace("$", "").replace(",", "")) > 0


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("recall fell\n\n  next  vecmig upgrade\r\n", "recall fell next  vecmig upgrade"),
        (" \n", None),
        (None, None),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_what_a_person_wrote_is_one_line(written: str | None, line: str | None) -> None:
    assert text.one_line(written) == line
