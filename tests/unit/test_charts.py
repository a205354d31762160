"""Charts stay within their frame, whatever they are given, and nothing in them is more than text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from vecmig.serve.charts import Series, column, coverage_bar, distribution, growth_chart, interval

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PLANTED = '"><script>alert(1)</script>'
SHARES = st.floats(0, 1)


def _parsed(drawn: Markup) -> ET.Element:
    return ET.fromstring(str(drawn))


def _points(ages: list[float], shares: list[float]) -> list[tuple[datetime, float]]:
    times = sorted(NOW - timedelta(seconds=age) for age in ages)
    return list(zip(times, sorted(shares), strict=False))


LINES = st.lists(
    st.builds(_points, st.lists(st.floats(0, 1e7), max_size=8), st.lists(SHARES, max_size=8)), min_size=1, max_size=3
)


@given(LINES, st.none() | SHARES)
def test_growth_lies_within_the_plot(lines: list[list[tuple[datetime, float]]], required: float | None) -> None:
    drawn = growth_chart([Series(PLANTED, "live", points) for points in lines], required, NOW)
    if not any(lines):
        assert drawn == ""
        return
    paths = [element.get("d", "") for element in _parsed(drawn).iter("path")]
    assert len(paths) == sum(bool(points) for points in lines)
    for path in paths:
        assert all(0 <= float(number) <= 1000 for number in re.findall(r"[\d.]+", path))
    assert "<script>" not in drawn


def test_an_older_tag_begins_where_it_stood_when_the_newest_one_began() -> None:
    old = [(NOW - timedelta(days=9, minutes=n), 1 - n / 10) for n in range(9, -1, -1)]
    new = [(NOW - timedelta(minutes=10 - n), n / 20) for n in range(10)]
    drawn = growth_chart([Series("old", "live", old), Series("new", "candidate", new)], 0.995, NOW)
    first, second = (element.get("d", "") for element in _parsed(drawn).iter("path"))
    assert first == "M0.0 0.0H1000", "complete all along"
    assert second.startswith("M"), second
    assert float(second[1:].split()[0]) > 0


def test_a_tag_that_is_complete_is_shown_as_it_grew_not_what_was_edited_since() -> None:
    grown = [(NOW - timedelta(days=30) + timedelta(minutes=n), n / 100) for n in range(100)]
    drawn = growth_chart([Series("tag", "live", [*grown, (NOW, 1.0)])], None, NOW)
    times = [element.text for element in _parsed(drawn).iter("text") if element.text and ":" in element.text]
    assert times[0].startswith("11:5"), times
    assert times[-1].startswith("13:"), "an hour and a half, not a month"


@given(st.dictionaries(st.sampled_from(["fresh", "stale", "rejected", "missing"]), st.floats(0, 0.25)))
def test_a_bar_shows_whatever_is_there(shares: dict[str, float]) -> None:
    rects = list(_parsed(coverage_bar(shares, PLANTED)).iter("rect"))
    assert [rect.get("class") for rect in rects] == [state for state, share in shares.items() if share > 0]
    for rect in rects:
        begins, width = (float(rect.get(name, "").rstrip("%")) for name in ("x", "width"))
        assert begins >= 0
        assert width >= 0.5
        assert begins + width <= 100.01


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(0.001, 1))
def test_an_interval_is_beside_zero_as_it_is(a: float, b: float, c: float, reach: float) -> None:
    low, mean, high = sorted((a, b, c))
    drawn = _parsed(interval(low, mean, high, reach))
    dot = next(drawn.iter("circle"))
    place = float(dot.get("cx", "").rstrip("%"))
    assert 0 <= place <= 100
    assert (place > 50) <= (mean > 0)
    assert (place < 50) <= (mean < 0)
    assert dot.get("class") == ("worse" if high < 0 else "better" if low > 0 else "even")


def test_quantiles_are_ordered_by_their_share_not_as_jsonb_keeps_them() -> None:
    quantiles = {"0.5": 0.3, "0.05": 0.1, "0.25": 0.2, "0.75": 0.4, "0.95": 0.5}
    drawn = _parsed(distribution(quantiles, 0.1, 0.5, "live"))
    line, median = (element for element in drawn.iter("line"))
    assert (line.get("x1"), line.get("x2"), median.get("x1")) == ("2.0%", "98.0%", "50.0%")


def test_a_column_of_nothing() -> None:
    assert 'width="0.0%"' in column(0, 0) or 'width="0%"' in column(0, 0)
    assert 'width="50.0%"' in column(2, 4)
