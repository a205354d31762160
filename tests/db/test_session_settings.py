"""What a database or a role sets by default changes neither keys nor hashes."""

from __future__ import annotations

from typing import Any

import psycopg

from support.embedding import Model
from support.lab import SMALL, Lab


def test_settings_of_the_database_do_not_make_vectors_stale(
    bare_lab: Lab, connection: psycopg.Connection[Any], model: Model
) -> None:
    connection.execute(
        "CREATE TABLE documents (day date, at timestamptz, share float, took interval, raw bytea, "
        "PRIMARY KEY (day, at, share))"
    )
    connection.execute(
        "INSERT INTO documents SELECT date '2026-01-01' + n, now() - n * interval '1.000001 s', n / 7.0, "
        "n * interval '1 day 2 h', decode('00ff', 'hex') FROM generate_series(1, 12) n"
    )
    lab = bare_lab.write(key=["day", "at", "share"], text="concat_ws(' ', day, at, share, took, raw)", chain=(SMALL,))
    lab.upgrade()
    settings = {
        "DateStyle": "'SQL, DMY'",
        "TimeZone": "'Asia/Kathmandu'",
        "extra_float_digits": "-5",
        "IntervalStyle": "'iso_8601'",
        "bytea_output": "'escape'",
        "standard_conforming_strings": "on",
    }
    for name, value in settings.items():
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {name} = {value}")
    assert lab.cover(SMALL).fresh == 12
    lab.sync()
    assert model.total() == 12
    with psycopg.connect(lab.url, autocommit=True) as application:
        application.execute("UPDATE documents SET took = took + interval '1 h'")
        application.execute("DELETE FROM documents WHERE day = '03/01/2026'")
    found = lab.cover(SMALL)
    assert (found.records, found.stale, found.unaccounted) == (11, 11, 0)
    lab.sync()
    assert connection.execute("SELECT count(*) FROM vecmig.change").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM documents_vectors").fetchone() == (11,)


def test_settings_of_the_application_do_not_reach_the_outbox(
    bare_lab: Lab, connection: psycopg.Connection[Any], model: Model
) -> None:
    """One record has one row there, whoever changes it."""
    connection.execute(
        "CREATE TABLE documents (took interval, raw bytea, days daterange, body text, PRIMARY KEY (took, raw, days))"
    )
    connection.execute("INSERT INTO documents VALUES ('1 day 2 h', '\\x00ff', '[2026-02-01,2026-03-04)', 'one')")
    lab = bare_lab.write(key=["took", "raw", "days"], text="body", chain=(SMALL,))
    lab.upgrade()
    for settings in ("", "SET IntervalStyle = 'iso_8601'", "SET bytea_output = 'escape'", "SET DateStyle = 'SQL, DMY'"):
        with psycopg.connect(lab.url, autocommit=True) as application:
            application.execute(settings)
            application.execute("UPDATE documents SET body = body || 'x'")
    assert connection.execute("SELECT count(*) FROM vecmig.change").fetchone() == (1,)
    lab.sync()
    assert connection.execute("SELECT count(*) FROM vecmig.change").fetchone() == (0,)
