"""Which types of a key are followed: those that take all values of the one before, and write each as that did."""

from __future__ import annotations

import pytest

from vecmig.source.key_types import is_wider

WIDER = [
    ("uuid", "uuid"),
    ("smallint", "integer"),
    ("integer", "bigint"),
    ("smallint", "bigint"),
    ("character varying(10)", "character varying(20)"),
    ("character varying(10)", "character varying"),
    ("character varying(10)", "text"),
    ("character varying", "text"),
    ("text", "character varying"),
    ("numeric(6,0)", "numeric(12,0)"),
    ("numeric(6,2)", "numeric"),
    ("bit varying(4)", "bit varying(8)"),
]
OTHERS = [
    ("bigint", "integer"),
    ("integer", "numeric"),
    ("bigint", "text"),
    ("text", "bigint"),
    ("uuid", "text"),
    ("text", "uuid"),
    ("text", "character varying(10)"),
    ("character varying", "character varying(10)"),
    ("character varying(20)", "character varying(10)"),
    ("character(4)", "character(8)"),
    ("character(4)", "text"),
    ("numeric(12,0)", "numeric(6,0)"),
    ("numeric(6,2)", "numeric(6,0)"),
    ("numeric(6,0)", "numeric(8,2)"),
    ("numeric", "numeric(6,0)"),
    ("timestamp(0) without time zone", "timestamp without time zone"),
    ("timestamp without time zone", "timestamp with time zone"),
    ("date", "timestamp without time zone"),
    ("text", "citext"),
]


@pytest.mark.parametrize(("then", "now"), WIDER)
def test_wider(then: str, now: str) -> None:
    assert is_wider(then, now)


@pytest.mark.parametrize(("then", "now"), OTHERS)
def test_not_wider(then: str, now: str) -> None:
    assert not is_wider(then, now)
