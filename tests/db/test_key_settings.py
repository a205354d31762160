"""A key of any type is the same key whatever a database, a role or a pooler says of how values are written."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql

from support.lab import LARGE, Lab
from support.pgbouncer import PGBOUNCER, running_pgbouncer
from support.postgres import Postgres
from vecmig import runner

#: By type: keys as SQL writes them, some of which Python has no value for.
TIMES: Final = {
    "interval": ("1 mon -2 days 03:04:05.678", "90 days", "-178000000 years", "1 year 2 mons -3 days +4:05:06"),
    "timestamptz": ("2026-03-29 01:59:59.000001+00", "infinity", "-infinity", "0044-03-15 12:00:00+00 BC"),
    "timestamp": ("2026-03-04 05:06:07.08", "infinity", "0044-03-15 12:00:00 BC", "2026-01-02"),
    "date": ("2026-02-01", "infinity", "0044-03-15 BC", "5874897-12-31"),
    "time": ("03:04:05.000001", "24:00:00", "00:00:00", "12:00:00"),
    "tstzrange": ("[2026-01-02 03:04:05+00,infinity]", "empty", "(,)", "[2026-01-02 03:04:05+00,)"),
}
OTHERS: Final = {
    "numeric": ("1.10", "NaN", "-Infinity", "1e-30"),
    "float8": ("0.1", "0.30000000000000004", "1e-323", "NaN"),
    "float4": ("0.1", "1.1754944e-38", "NaN", "-infinity"),
    "money": ("1234567.89", "-0.01", "0", "1"),
    "bytea": (r"\x00ff5c27", r"\x", r"\x255c6e", r"\xc384"),
    "inet": ("10.0.0.9", "::1", "10.0.0.0/8", "10.0.0.10"),
    "public.mood": ("sad", 'o"k', r"a\b", "sad"),
    "public.slug": ("a'b", r"a\nb", "Ä", "%s"),
    "uuid": tuple(f"00000000-0000-0000-0000-0000000000f{n}" for n in range(4)),
}
_BEFORE: Final = r"""
CREATE TYPE mood AS ENUM ('sad', 'o"k', 'a\b');
CREATE DOMAIN slug AS text CHECK (value <> '')
"""
STYLES: Final = ("postgres", "postgres_verbose", "sql_standard", "iso_8601")
#: How values are written, at its worst beside the style of an interval.
WORST: Final = {
    "DateStyle": "SQL, DMY",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "lc_monetary": "C.UTF-8",
}
COUNT: Final = 4
SCOPES: Final = {"database": "ALTER DATABASE {}", "role": "ALTER ROLE postgres IN DATABASE {}"}


@pytest.fixture
def pools(postgres: Postgres, database_url: str) -> Iterator[dict[str, str]]:
    """The database behind poolers, by their mode: a session is a client's own, or shared."""
    if PGBOUNCER is None:
        yield {}
        return
    settings = {"default_pool_size": 12}
    with (
        running_pgbouncer(postgres, pool_mode="session", **settings) as own,
        running_pgbouncer(postgres, pool_mode="transaction", **settings) as shared,
    ):
        yield {"session": own.url(database_url), "transaction": shared.url(database_url)}


def _make(connection: psycopg.Connection[Any], keys: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Create the source; give the names of its key columns."""
    connection.execute(_BEFORE)
    names = [f"k{number}" for number in range(len(keys))]
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, keys, strict=True))
    connection.execute(f"CREATE TABLE documents ({columns}, body text, PRIMARY KEY ({', '.join(names)}))")
    values = ", ".join(f"%s::text::{kind}" for kind in keys)
    for number, key in enumerate(zip(*keys.values(), strict=True)):
        connection.execute(f"INSERT INTO documents VALUES ({values}, %s)", [*key, f"text {number}"])
    return names


def _set(connection: psycopg.Connection[Any], scope: str, settings: Mapping[str, str]) -> None:
    whose = sql.SQL(SCOPES[scope]).format(sql.Identifier(connection.info.dbname))
    connection.execute(sql.SQL("{} RESET ALL").format(whose))
    for name, value in settings.items():
        connection.execute(sql.SQL("{} SET {} = {}").format(whose, sql.Identifier(name), sql.Literal(value)))


def _answers(lab: Lab, url: str) -> str:
    """What a search gives for each record: its text and its key."""
    with lab.reader(url) as reader:
        hits = [reader.search("documents", f"text {number}", 1)[0] for number in range(COUNT)]
    return repr([(hit.text, hit.key, hit.record) for hit in hits])


def _is_kept_complete(lab: Lab, connection: psycopg.Connection[Any], url: str) -> None:
    """An edit, and then another one that takes it back, are noted and embedded."""
    for edit in ("body || ' edited'", "replace(body, ' edited', '')"):
        connection.execute(f"UPDATE documents SET body = {edit}")
        assert lab.status().outbox.records == COUNT
        lab.write(url=url).sync()
        lab.write()
        assert lab.status().outbox.records == 0
        assert lab.cover(LARGE).fresh == COUNT


@pytest.mark.parametrize("keys", [TIMES, OTHERS], ids=["times", "others"])
def test_keys_are_the_same_however_values_are_written(
    bare_lab: Lab, connection: psycopg.Connection[Any], pools: dict[str, str], keys: dict[str, tuple[str, ...]]
) -> None:
    lab = bare_lab.write(key=_make(connection, keys), text="body")
    lab.upgrade("r1")
    plain = _answers(lab, lab.url)
    _set(connection, "database", WORST | {"IntervalStyle": "iso_8601"})
    lab.upgrade()
    for scope, style in itertools.product(SCOPES, STYLES):
        for one in SCOPES:
            _set(connection, one, WORST | {"IntervalStyle": style} if one == scope else {})
        for url in (lab.url, *pools.values()):
            assert _answers(lab, url) == plain, (scope, style, url)
    for url in (lab.url, *([pools["session"]] if pools else [])):
        _is_kept_complete(lab, connection, url)
    connection.execute("DELETE FROM documents WHERE body = 'text 0'")
    assert connection.execute("SELECT count(*) FROM documents_vectors").fetchone() == (2 * (COUNT - 1),)
    assert [one for one in runner.audit(lab.config).findings if one.severity == "error"] == []
    assert lab.downgrade() == ["r2"]
