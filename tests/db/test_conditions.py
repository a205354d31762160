"""A condition of a search that does not work is its author's mistake, and is told with PostgreSQL's own words."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from support.lab import Lab
from vecmig.errors import ConditionError, ConfigError, DatabaseError, UsageError
from vecmig.reader import AsyncReader

_HINT = "Correct it. It is a condition over public.documents, whose columns are: id, title, body"

#: A condition, its values, and what is said of it.
BROKEN: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "no SQL": ("id ==", (), "syntax error (at the end of id ==)"),
    "a bracket that stays open": ("(id = 1", (), "syntax error (at the end of (id = 1)"),
    "a quote that stays open": ("title = 'x", (), "syntax error (at the end of title = 'x)"),
    "a second statement": ("id = 1; DROP TABLE documents", (), 'syntax error at or near ";" (at character 7 of'),
    "an unknown column": ("id = 1 AND nope = 2", (), 'column "nope" does not exist (at character 12 of'),
    "an unknown column behind values": (
        "id = %s AND title <> %s AND nope = 'ä'",
        (1, "x"),
        'column "nope" does not exist (at character 29 of',
    ),
    "an unknown column behind a percent sign": (
        "title LIKE 'a%%' AND nope = 2",
        (),
        'column "nope" does not exist (at character 22 of',
    ),
    "an unknown table": ("id IN (SELECT id FROM nowhere)", (), 'relation "nowhere" does not exist (at character 23 of'),
    "an unknown function": ("nope(id)", (), "function nope(bigint) does not exist (at character 1 of nope(id))"),
    "another type": ("id = 'abc'", (), 'invalid input syntax for type bigint: "abc" (at character 6 of'),
    "types that do not meet": ("id = title", (), "operator does not exist: bigint = text (at character 4 of"),
    "no condition": ("title", (), "argument of AND must be type boolean, not type text (at character 1 of title)"),
    "an aggregate": ("count(*) > 1", (), "aggregate functions are not allowed in WHERE (at character 1 of"),
    "a value of another type": ("id = %s", ("abc",), 'invalid input syntax for type bigint: "abc" (in id = %s, or'),
    "a division": ("10 / (id - 3) > 0", (), "division by zero (in 10 / (id - 3) > 0, or in a value for it)"),
    "more than one row": (
        "id = (SELECT d.id FROM public.documents d)",
        (),
        "more than one row returned by a subquery used as an expression",
    ),
}


@pytest.mark.parametrize("what", list(BROKEN))
@pytest.mark.upgraded
def test_a_condition_that_does_not_work_is_named(lab: Lab, what: str) -> None:
    where, params, said = BROKEN[what]
    with lab.reader() as reader:
        with pytest.raises(ConditionError) as refused:
            reader.search("documents", "title 3\n\nbody 3", 2, where=where, params=params)
        assert refused.value.message.startswith(f"where does not work: {said}")
        assert refused.value.hint == _HINT
        assert refused.value.exit_code == UsageError.exit_code
        assert isinstance(refused.value, DatabaseError)
        # the connection serves the next one
        (hit,) = reader.search("documents", "title 3\n\nbody 3", 1, where="id < %s", params=[9])
        assert hit.key == (3,)


@pytest.mark.upgraded
def test_it_is_the_same_for_who_awaits(lab: Lab) -> None:
    async def ask() -> None:
        async with AsyncReader.for_project(lab.config) as reader:
            with pytest.raises(ConditionError, match=r'column "nope" does not exist \(at character 1 of nope = 2\)'):
                await reader.search("documents", "title 3", 2, where="nope = 2")

    asyncio.run(ask())


@pytest.mark.upgraded
def test_what_is_wrong_elsewhere_is_no_fault_of_the_condition(lab: Lab, connection: psycopg.Connection[Any]) -> None:
    with lab.reader() as reader:
        reader.search("documents", "title 3", 1, where="id < 9")
        connection.execute("DROP VIEW documents_live; ALTER TABLE documents DROP COLUMN title CASCADE")
        with pytest.raises(ConfigError, match=r'the text expression .* column "title" does not exist'):
            reader.search("documents", "title 3", 1, where="id < 9")
