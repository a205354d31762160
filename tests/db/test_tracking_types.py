"""What expand is about to install is tried on the real types of the key before it is committed."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from support.lab import SMALL, Lab
from vecmig.errors import ConfigError

Connection = psycopg.Connection[Any]

#: Types of a key that work, and a value of each.
_FIT = {
    "bigint": "1",
    "numeric": "1.50",
    "text": "'a'",
    "varchar(10)": "'a'",
    "char(5)": "'a'",
    '"char"': "'a'",
    "uuid": "'d0c5f8a0-0000-4000-8000-000000000000'",
    "timestamptz": "'2026-01-01 12:00:00.123456+02'",
    "date": "'2026-01-01'",
    "float8": "0.1",
    "bytea": "'\\x00ff'",
    "bit(3)": "B'101'",
    "inet": "'10.0.0.1'",
    "int4range": "'[1,5)'",
    "boolean": "true",
    "name": "'a'",
    "mood": "'happy'",
    "positive": "1",
    "shouted": "'A'",
    "span": "'[1,5)'",
}


@pytest.fixture
def types(connection: Connection) -> None:
    """Types of a team's own."""
    connection.execute("""
        CREATE TYPE mood AS ENUM ('happy', 'sad');
        CREATE DOMAIN my_mood AS mood;
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE DOMAIN shouted AS text COLLATE "C" CHECK (VALUE = upper(VALUE));
        CREATE DOMAIN span AS int4range""")


@pytest.mark.usefixtures("types")
@pytest.mark.parametrize(("type_", "value"), _FIT.items(), ids=list(_FIT))
def test_keys_of_a_type_go_to_the_outbox_and_take_their_vectors_along(
    bare_lab: Lab, connection: Connection, type_: str, value: str
) -> None:
    connection.execute(f"CREATE TABLE documents (id {type_} PRIMARY KEY, title text, body text)")
    connection.execute(f"INSERT INTO documents VALUES ({value}, 'a', 'b')")
    lab = bare_lab.write()
    lab.upgrade("r1")
    connection.execute("UPDATE documents SET body = 'new'")
    lab.sync()
    assert lab.cover(SMALL).share == 1
    assert lab.sql("SELECT count(*) FROM documents_vectors") == [(1,)]
    with connection.transaction():
        for _ in range(4):
            connection.execute("UPDATE documents SET body = body || 'er'")
    assert lab.sql("SELECT count(*) FROM vecmig.change") == [(1,)]
    with connection.transaction():
        for _ in range(4):
            connection.execute("DELETE FROM documents")
            connection.execute(f"INSERT INTO documents VALUES ({value}, 'a', 'b')")
    lab.sync()
    assert lab.cover(SMALL).share == 1
    with connection.transaction():
        # the first changes of a transaction are written at once: so that this one is gathered
        connection.execute("UPDATE documents SET body = body || 'x'")
        connection.execute("UPDATE documents SET body = body || 'x'")
        connection.execute("DELETE FROM documents")
        assert connection.execute("SELECT count(*) FROM documents_vectors").fetchone() == (1,)
    assert lab.sql("SELECT count(*) FROM documents_vectors") == [(0,)]
    assert lab.sql("SELECT count(*) FROM vecmig.full_pass") == [(0,)]


@pytest.mark.usefixtures("types")
@pytest.mark.parametrize("rows", [0, 1])
def test_a_key_that_cannot_be_tracked_leaves_nothing_behind(bare_lab: Lab, connection: Connection, rows: int) -> None:
    connection.execute("CREATE TABLE documents (part int, id my_mood, title text, body text, PRIMARY KEY (part, id))")
    connection.execute("INSERT INTO documents SELECT n, 'happy', 'a', 'b' FROM generate_series(1, %s) n", [rows])
    lab = bare_lab.write(key=("part", "id"))
    with pytest.raises(ConfigError, match=r"its key cannot be tracked by id of type (public\.)?my_mood: ") as refused:
        lab.upgrade("r1")
    assert "Nothing was changed." in str(refused.value.state)
    assert lab.sql("SELECT 1 FROM pg_trigger WHERE tgrelid = 'documents'::regclass AND NOT tgisinternal") == []
    assert lab.sql("SELECT to_regclass('documents_vectors'), to_regclass('vecmig.documents_track')") == [(None, None)]
    assert lab.sql("SELECT count(*) FROM vecmig.collection") == [(0,)]
    connection.execute("DELETE FROM documents")
