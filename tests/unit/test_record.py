"""How docs/record.py takes what a terminal shows into a page, and what it does not let pass as the same."""

from __future__ import annotations

import pytest

from docs.record import BLOCK, comparable, edited, settled, svg, svg_text, with_output

#: What `vecmig upgrade` wrote to a terminal of 110 columns.
UPGRADE = (
    "\x1b[1m4cd95e01f522  functions\x1b[0m\r\n"
    "\x1b[?25l\x1b[32m⠋\x1b[0m expand tag\r\x1b[2K\x1b[32m⠹\x1b[0m expand tag\r\n"
    "\x1b[?25h\r\x1b[1A\x1b[2K  expand    partition created (0.25 s)\r\n"
)
SETTLED = "\x1b[1m4cd95e01f522  functions\x1b[0m\n  expand    partition created (0.25 s)\n"
PAGE = """\
Words.

<!-- picture run.svg -->
```console
$ vecmig heads
0123456789ab  first
$ python sql.py "SELECT 1; \\
    SELECT 2"
```

```sh
$ vecmig heads
```
"""


def test_what_was_written_over_is_gone() -> None:
    assert settled(UPGRADE) == SETTLED
    drawn = svg_text(svg(SETTLED)).splitlines()
    assert [line.strip() for line in drawn if line.strip()] == [
        "vecmig",
        "4cd95e01f522  functions",
        "expand    partition created (0.25 s)",
    ]


def test_a_block_has_what_its_comment_says() -> None:
    first, second = BLOCK.findall(PAGE)
    assert first[:3] == ("picture", "run.svg", "console")
    assert second[:3] == ("", "", "sh")


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("0123456789ab  live", "ba9876543210  live"),
        ("\x1b[1m0123456789ab\x1b[0m  live", "\x1b[1mba9876543210\x1b[0m  live"),
        ("200 queries (1 min 3 s)", "200 queries (5.2 s)"),
        ("backfill  7 records embedded (1,095/s) (1.1 s)", "backfill  7 records embedded (95/s) (35 ms)"),
        (
            "possible from 2026-12-18, but first: run vecmig\neval",
            "possible from 2027-01-02, but first: run\nvecmig eval",
        ),
    ],
)
def test_what_varies_makes_no_difference(now: str, then: str) -> None:
    assert comparable(now) == comparable(then)


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("7 records embedded", "8 records embedded"),
        ("49.4 % fresh", "50 % fresh"),
        ("live tag is now a@1/dim-64", "live tag is now a@1/dim-128"),
    ],
)
def test_what_does_not_vary_makes_one(now: str, then: str) -> None:
    assert comparable(now) != comparable(then)


def test_a_page_gets_the_output_of_its_commands_in_their_order() -> None:
    two = 'python sql.py "SELECT 1; \\\n    SELECT 2"'
    printed = [("vecmig heads", "ffffffffffff  first\n"), ("vecmig current", "no\n"), (two, "1\n2\n")]
    page = with_output(PAGE, printed, {})
    assert page == PAGE.replace('SELECT 2"\n', 'SELECT 2"\n1\n2\n')
    printed[0] = ("vecmig heads", "ffffffffffff  second\n")
    assert with_output(page, printed, {"ffffffffffff": "0123456789ab"}) == page.replace("first", "second")
    assert with_output(page, printed) == page.replace("0123456789ab  first", "ffffffffffff  second")
    with pytest.raises(SystemExit, match=r"no command, or not at this place: python sql\.py"):
        with_output(PAGE, printed[:2], {})


def test_a_line_of_a_script_is_replaced_by_the_name_that_it_sets() -> None:
    script = "from vecmig import Gate\n\ngate = Gate()\n# trust = Trust(days=21)\n"
    assert edited(script, "from vecmig import Trust\n\ntrust = Trust(days=0)\n") == (
        "from vecmig import Trust\n\ngate = Gate()\ntrust = Trust(days=0)\n"
    )
    with pytest.raises(SystemExit, match="no line to replace by: other = 1"):
        edited(script, "other = 1\n")
