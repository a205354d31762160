"""Records are found by keys of any type and name: each record is embedded once, and its vector is its own."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from support.embedding import Model, vector
from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.errors import ConfigError
from vecmig.freshness.pending import read_page

_ODD = [
    "a'b",
    'a"b',
    "100%",
    "%s",
    "{0}",
    "a\\b",
    "Ä",
    "ä",
    "z",
    "Z",
    "a b",
    "東京",
    "",
    " ",
    "é",
    "e\u0301",
    "$1",
    "a,b",
]
_UTC = dt.UTC


@dataclass(frozen=True)
class Case:
    """A source table and its keys."""

    create: str
    table: str
    columns: dict[str, str]
    keys: list[tuple[Any, ...]]
    source: str = "public.documents"
    before: str = ""
    text: str = "body"
    options: dict[str, Any] = field(default_factory=dict)
    body: str = "body"


def _table(columns: dict[str, str], keys: list[tuple[Any, ...]], table: str = "public.documents", **more: Any) -> Case:
    listed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
    primary = ", ".join(f'"{name}"' for name in columns)
    body = more.get("body", "body")
    create = f'CREATE TABLE {table} ({listed}, "{body}" text, PRIMARY KEY ({primary})) {more.pop("suffix", "")}'
    return Case(create, table, columns, keys, source=more.pop("source", table), **more)


CASES = {
    "bigint": _table({"id": "bigint"}, [(9,), (10,), (100,), (-1,), (2**63 - 1,)]),
    "uuid": _table({"id": "uuid"}, [(uuid.UUID(int=n),) for n in (1, 255, 2**127, 2**128 - 1)]),
    "text": _table({"id": "text"}, [(key,) for key in _ODD]),
    "text in another collation": _table({"id": 'text COLLATE "ucs_basic"'}, [(key,) for key in _ODD]),
    "char": _table({"id": "char(5)"}, [("a",), ("ab",), ("b",)]),
    "composite": _table({"part": "int", "name": "text"}, [(p, n) for p in (9, 10) for n in ("b", "a'", "%")]),
    "timestamptz": _table(
        {"id": "timestamptz"},
        [(dt.datetime(2026, 3, 29, 1, 59, 59, n, tzinfo=_UTC),) for n in (0, 1, 999999)]
        + [(dt.datetime(99, 1, 1, tzinfo=_UTC),)],
    ),
    "date": _table({"id": "date"}, [(dt.date(2026, 2, 1),), (dt.date(2026, 1, 2),)]),
    "numeric": _table({"id": "numeric"}, [(Decimal(n),) for n in ("1.10", "1.1001", "-0.5", "1e30", "NaN", "9", "10")]),
    "float": _table({"id": "double precision"}, [(0.1,), (1 / 3,), (1e300,), (-1.5,), (float("inf"),)]),
    "infinite timestamptz": _table(
        {"id": "timestamptz"},
        [("infinity",), ("-infinity",), ("0044-03-15 12:00:00+00 BC",), ("294276-12-31 23:59:59.999999+00",)],
    ),
    "infinite timestamp": _table({"id": "timestamp"}, [("infinity",), ("0044-03-15 12:00:00 BC",), ("2026-01-02",)]),
    "infinite date": _table({"id": "date"}, [("infinity",), ("-infinity",), ("0044-03-15 BC",), ("5874897-12-31",)]),
    "not a number": _table({"id": "numeric"}, [("NaN",), ("Infinity",), ("-Infinity",), ("1.10",)]),
    "float not a number": _table({"id": "real", "part": "float"}, [("NaN", "NaN"), ("-infinity", "1e-300")]),
    "interval": _table({"id": "interval"}, [("1 mon -2 days 03:04:05.678",), ("-178000000 years",), ("90 days",)]),
    "boolean": _table({"id": "boolean"}, [(True,), (False,)]),
    "money": _table({"id": "money"}, [("1234567.89",), ("-0.01",)]),
    "time": _table({"id": "time", "zone": "timetz"}, [("24:00:00", "24:00:00-15:59"), ("00:00", "12:00+05:45")]),
    "network": _table({"id": "cidr", "mac": "macaddr"}, [("10.0.0.0/8", "08:00:2b:01:02:03"), ("::/0", "0:0:0:0:0:1")]),
    "range": _table(
        {"id": "int4range", "at": "tstzrange", "day": "daterange"},
        [("[1,3)", "[-infinity,infinity]", "empty"), ("(,)", "(,2026-01-02 03:04:05+00)", "[2026-01-01,infinity]")],
    ),
    "multirange": _table({"id": "int4multirange"}, [("{}",), ("{[1,3),[7,)}",)]),
    "bits": _table({"id": "bit varying", "o": "oid", "n": "name"}, [("", "4294967295", "a'b"), ("0101", "0", "")]),
    "enum": _table({"id": "mood"}, [("sad",), ("ok",)], before="CREATE TYPE mood AS ENUM ('sad', 'ok')"),
    "domain": _table({"id": "slug"}, [("b",), ("a",)], before="CREATE DOMAIN slug AS text CHECK (value <> '')"),
    "bytea": _table({"id": "bytea"}, [(b"\x00\xff",), (b"",), (b"%s",)]),
    "inet": _table({"id": "inet"}, [("10.0.0.9",), ("10.0.0.10",), ("::1",)]),
    "other schema's type": _table(
        {"id": "kinds.mood"},
        [("sad",), ("ok",)],
        before="CREATE SCHEMA kinds; CREATE TYPE kinds.mood AS ENUM ('sad', 'ok')",
    ),
    "type of an extension": _table(
        {"id": "num"},
        [("9",), ("10",), ("100",)],
        before="CREATE TYPE num; "
        "CREATE FUNCTION num_in(cstring) RETURNS num LANGUAGE internal IMMUTABLE STRICT AS 'int8in'; "
        "CREATE FUNCTION num_out(num) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int8out'; "
        "CREATE TYPE num (INPUT = num_in, OUTPUT = num_out, LIKE = bigint); "
        + "".join(
            f"CREATE FUNCTION num_{name}(num, num) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int8{name}'; "
            f"CREATE OPERATOR {sign} (LEFTARG = num, RIGHTARG = num, FUNCTION = num_{name}"
            + (", MERGES); " if sign == "=" else "); ")
            for name, sign in {"lt": "<", "le": "<=", "eq": "=", "ge": ">=", "gt": ">"}.items()
        )
        + "CREATE FUNCTION num_cmp(num, num) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'btint8cmp'; "
        "CREATE OPERATOR CLASS num_ops DEFAULT FOR TYPE num USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, "
        "OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 num_cmp(num, num)",
    ),
    "names to quote": _table(
        {"Id No": "int", "order": "text"},
        [(9, "a"), (10, "b")],
        table='"My Schema"."The Docs"',
        before='CREATE SCHEMA "My Schema"',
        body="select",
        text='"select"',
    ),
    "names with percent": _table(
        {"id %s": "int", "a{0}b": "text"},
        [(9, "a%"), (10, "b")],
        table='"100%"."docs %s {x}"',
        before='CREATE SCHEMA "100%"',
        body="bo%dy",
        text='"bo%dy"',
    ),
    "partitioned": _table(
        {"id": "int", "region": "text"},
        [(9, "eu"), (10, "us"), (100, "eu")],
        suffix="PARTITION BY LIST (region)",
    ),
    "where with percent": _table({"id": "int"}, [(9,), (10,)], options={"where": "body LIKE '%text%'"}),
    "halfvec by l2": _table({"id": "int"}, [(9,), (10,)], options={"storage": "halfvec", "metric": "l2"}),
    "inner product": _table({"id": "int"}, [(9,), (10,)], options={"metric": "ip"}),
}


def _text(key: tuple[Any, ...]) -> str:
    return f"text of {'|'.join(map(str, key))}"


def _fill(connection: psycopg.Connection[Any], case: Case) -> None:
    connection.execute(case.before)
    connection.execute(case.create)
    if "PARTITION BY" in case.create:
        connection.execute("CREATE TABLE eu PARTITION OF documents FOR VALUES IN ('eu')")
        connection.execute("CREATE TABLE us PARTITION OF documents FOR VALUES IN ('us')")
    names = ", ".join(f'"{name}"' for name in (*case.columns, case.body))
    values = ", ".join(f"%s::{kind.split(' COLLATE')[0]}" for kind in case.columns.values())
    head = f"INSERT INTO {case.table} ({names})".replace("%", "%%")
    with connection.cursor() as cursor:
        cursor.executemany(f"{head} VALUES ({values}, %s)", [[*key, _text(key)] for key in case.keys])


@pytest.mark.parametrize("name", CASES)
def test_a_collection_with_any_key_goes_to_its_second_tag(
    name: str, bare_lab: Lab, connection: psycopg.Connection[Any], model: Model
) -> None:
    case = CASES[name]
    _fill(connection, case)
    lab = bare_lab.write(source=case.source, key=list(case.columns), text=case.text, options=case.options)

    assert lab.upgrade() == ["live", "live"]

    assert model.total(64) == model.total(256) == len(case.keys)
    live = lab.inspected().live.as_string(None)
    found = connection.execute(f'SELECT "{case.body}", embedding::text, tag FROM {live}').fetchall()
    assert {text for text, _, _ in found} == {_text(key) for key in case.keys}
    for text, embedding, tag in found:
        assert tag == LARGE
        assert json.loads(embedding) == pytest.approx(vector(text, 256).tolist(), abs=1e-3)
    with lab.reader() as reader:
        for key in case.keys:
            (hit,) = reader.search("documents", _text(key), 1)
            assert hit.text == _text(key)
            assert hit.record[case.body] == _text(key)
    _check_triggers(lab, case, connection)
    assert {finding.severity for finding in runner.audit(lab.config).findings} <= {"warning"}
    assert lab.downgrade() == ["r2"]


def _check_triggers(lab: Lab, case: Case, connection: psycopg.Connection[Any]) -> None:
    """An edited record waits in the outbox until it is fresh again; a deleted one takes its vectors along."""
    if case.table.startswith("public."):
        connection.execute("SET search_path = ''")
    connection.execute(f'UPDATE {case.table} SET "{case.body}" = "{case.body}" || \' text\'')
    connection.execute("RESET search_path")
    assert lab.status().outbox.records == len(case.keys)
    assert lab.cover(LARGE).unaccounted == 0
    lab.sync()
    assert lab.status().outbox.records == 0
    assert lab.cover(SMALL).fresh == lab.cover(LARGE).fresh == len(case.keys)

    first = sql.SQL("DELETE FROM {} WHERE {} = (SELECT min({}) FROM {})")
    body, table = sql.Identifier(case.body), sql.SQL(case.table)
    assert connection.execute(first.format(table, body, body, table)).rowcount == 1
    vectors = lab.inspected().vectors.as_string(None)
    left = 2 * (len(case.keys) - 1)
    assert connection.execute(f"SELECT count(*) FROM {vectors}").fetchone() == (left,)


def test_a_rejected_record_is_known_by_its_key(
    bare_lab: Lab, connection: psycopg.Connection[Any], model: Model
) -> None:
    """Timestamps and numbers look otherwise in JSON than in SQL; a rejected record must not be paid for again."""
    create = "CREATE TABLE documents (at timestamptz, n numeric, f float, body text, PRIMARY KEY (at, n, f))"
    connection.execute(create)
    connection.execute(
        "INSERT INTO documents SELECT now() - n * interval '1.234567 h', n / 7.0, n / 7.0::float, 'x' || n "
        "FROM generate_series(1, 5) n"
    )
    lab = bare_lab.write(key=["at", "n", "f"], text="body", coverage=0)
    model.after = lambda texts, vectors: vectors * 0

    lab.upgrade("r1")
    lab.sync()

    assert model.total() == 5
    assert lab.cover(SMALL).rejected == 5


def test_a_key_that_python_has_no_value_for_is_a_key_everywhere(
    bare_lab: Lab, connection: psycopg.Connection[Any], model: Model
) -> None:
    """Infinity, NaN and the years before the first: rejected, tried again, named, judged by a suite, audited."""
    connection.execute(
        "CREATE TABLE documents (at timestamptz, n numeric, f float, body text, PRIMARY KEY (at, n, f));"
        "INSERT INTO documents VALUES ('infinity', 'NaN', 'NaN', 'first'), ('-infinity', 'Infinity', '-0', 'second'), "
        "('0044-03-15 BC', '1.10', 'infinity', 'third')"
    )
    lab = bare_lab.write(key=["at", "n", "f"], text="body", coverage=0)
    model.after = lambda texts, vectors: vectors * np.array([[text != "first"] for text in texts])
    lab.upgrade("r1")
    (refused,) = runner.rejected(lab.config)
    assert list(refused.key) == ["infinity", "NaN", "NaN"]
    assert lab.cover(SMALL).rejected == 1

    model.after = lambda texts, vectors: vectors
    assert runner.retry_rejected(lab.config) == 1
    lab.sync()
    lab.upgrade()
    assert lab.cover(LARGE).fresh == lab.cover(SMALL).fresh == 3
    assert runner.audit(lab.config).findings == ()

    queries = [
        {"query": "first", "relevant": [["infinity", "NaN", "NaN"]]},
        {"query": "third", "relevant": [["0044-03-15 00:00:00+00 BC", "1.1", "Infinity"]]},
    ]
    (lab.path / "evals").mkdir()
    suite = {"collection": "documents", "queries": queries}
    (lab.path / "evals" / "odd.yaml").write_text(json.dumps(suite))
    (evaluated,) = runner.evaluate(lab.config)
    assert [run.scores["success@10"]["search"].mean for run in evaluated.runs] == [1.0, 1.0]

    connection.execute("UPDATE documents SET at = 'infinity' WHERE body = 'second'")
    connection.execute("DELETE FROM documents WHERE body = 'first'")
    lab.sync()
    assert lab.status().outbox.records == 0
    assert connection.execute("SELECT count(*) FROM vecmig.rejected").fetchone() == (0,)
    assert lab.cover(LARGE).fresh == lab.cover(SMALL).fresh == 2


def test_pgvector_in_a_schema_that_no_path_names(
    bare_lab: Lab, connection: psycopg.Connection[Any], model: Model
) -> None:
    connection.execute('CREATE SCHEMA "the extensions"; ALTER EXTENSION vector SET SCHEMA "the extensions"')
    connection.execute("CREATE SCHEMA app; CREATE TABLE app.docs (id int PRIMARY KEY, body text)")
    connection.execute("INSERT INTO app.docs VALUES (9, 'nine'), (10, 'ten')")
    lab = bare_lab.write(source="app.docs", text="body", options={"storage": "halfvec"})

    assert lab.upgrade() == ["live", "live"]
    connection.execute("UPDATE app.docs SET body = 'NINE' WHERE id = 9")
    lab.sync()

    with lab.reader() as reader:
        assert [hit.key for hit in reader.search("documents", "NINE", 1)] == [(9,)]
    query = vector("ten", 256).tolist()
    call = 'SELECT id FROM app.documents_search(%s::text::"the extensions".vector, 1)'
    assert connection.execute(call, [json.dumps(query)]).fetchall() == [(10,)]
    assert lab.downgrade() == ["r2"]


def test_a_view_as_source_is_scanned(bare_lab: Lab, connection: psycopg.Connection[Any], model: Model) -> None:
    connection.execute("CREATE TABLE a (id int, body text); CREATE TABLE b (id int, title text)")
    connection.execute("INSERT INTO a SELECT n, 'b' || n FROM generate_series(1, 9) n")
    connection.execute("INSERT INTO b SELECT n, 't' || n FROM generate_series(1, 9) n")
    connection.execute("CREATE VIEW documents AS SELECT id, title || body AS body FROM a JOIN b USING (id)")
    lab = bare_lab.write(text="body", options={"change_tracking": "scan"}, chain=(SMALL,))

    assert lab.upgrade() == ["live"]
    connection.execute("UPDATE b SET title = 'new' WHERE id = 1; DELETE FROM a WHERE id = 2")
    lab.sync()

    assert model.total() == 10
    assert connection.execute("SELECT count(*) FROM documents_vectors").fetchone() == (8,)
    assert connection.execute("SELECT body FROM documents_live WHERE id = 1").fetchall() == [("newb1",)]


@pytest.mark.parametrize("own_schema", [False, True])
def test_a_row_that_moves_to_another_partition_keeps_its_vectors(
    bare_lab: Lab, connection: psycopg.Connection[Any], model: Model, own_schema: bool
) -> None:
    """PostgreSQL moves it by deleting and inserting; every vector of it is paid for."""
    kind = "kinds.mood" if own_schema else "int"
    first, second = ("'ok'", "'sad'") if own_schema else ("1", "2")
    connection.execute("CREATE SCHEMA kinds; CREATE TYPE kinds.mood AS ENUM ('sad', 'ok')")
    connection.execute(
        f"CREATE TABLE documents (id {kind}, region text, body text, PRIMARY KEY (id, region)) "
        "PARTITION BY LIST (region)"
    )
    for region in ("eu", "us"):
        connection.execute(f"CREATE TABLE documents_{region} PARTITION OF documents FOR VALUES IN ('{region}')")
    connection.execute(f"INSERT INTO documents VALUES ({first}, 'eu', 'one'), ({second}, 'eu', 'two')")
    lab = bare_lab.write(text="body")
    lab.upgrade()
    assert model.total() == 4
    connection.execute("SET search_path = ''")
    connection.execute(f"UPDATE public.documents SET region = 'us' WHERE id = {first}")
    assert connection.execute("SELECT count(*) FROM vecmig.documents_vectors").fetchone() == (4,)
    lab.sync()
    assert model.total() == 4
    assert lab.status().outbox.records == 0
    connection.execute(f"DELETE FROM public.documents WHERE id = {first}")
    assert connection.execute("SELECT count(*) FROM vecmig.documents_vectors").fetchone() == (2,)


@pytest.mark.parametrize("kind", ["int[]", "pair", "several", "jsonb", "any_json"])
def test_a_key_of_parts_is_refused(bare_lab: Lab, connection: psycopg.Connection[Any], kind: str) -> None:
    connection.execute(
        "CREATE TYPE pair AS (a int, b int); CREATE DOMAIN several AS int[]; CREATE DOMAIN any_json AS jsonb"
    )
    connection.execute(f"CREATE TABLE documents (id {kind} PRIMARY KEY, body text)")
    with pytest.raises(ConfigError, match=r"the key column id has the type .*cannot be part of a key") as refused:
        bare_lab.write(text="body").upgrade()
    assert "Name other columns in key:" in refused.value.hint


# Paging --------------------------------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
_MICROSECONDS = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))  # noqa: DTZ001
_PAGED: dict[str, st.SearchStrategy[Any]] = {
    "bigint": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 200),
    "uuid": st.uuids(),
    "text": _TEXT,
    'text COLLATE "ucs_basic"': _TEXT,
    "numeric": st.decimals(allow_infinity=False, allow_nan=False, places=3),
    "date": st.dates(),
    "timestamptz": _MICROSECONDS.map(lambda value: value.replace(tzinfo=_UTC)),
    "double precision": st.floats(allow_nan=False).map(lambda value: value + 0.0),
}


@pytest.fixture
def paged(bare_lab: Lab, connection: psycopg.Connection[Any]) -> Callable[[str, list[Any]], list[tuple[str, ...]]]:
    """Page over keys of one type; gives the keys visited, in order, and checks what the pages say about themselves."""
    spaces: dict[str, Any] = {}

    def pages(kind: str, keys: list[Any]) -> list[tuple[str, ...]]:
        if kind not in spaces:
            connection.execute(f"CREATE TABLE documents (id {kind}, part int, body text, PRIMARY KEY (id, part))")
            bare_lab.write(key=["id", "part"], text="body").upgrade("r1", until="expand")
            spaces[kind] = bare_lab.stamps(SMALL)
        connection.execute("TRUNCATE documents")
        plain = kind.split(" COLLATE", maxsplit=1)[0]
        with connection.cursor() as cursor:
            insert = f"INSERT INTO documents VALUES (%s::{plain}, %s, 'body') ON CONFLICT DO NOTHING"
            cursor.executemany(insert, [(key, part) for key in keys for part in (9, 10)])
        visited: list[tuple[str, ...]] = []
        after = None
        with bare_lab.database.session() as session:
            while True:
                page = read_page(session, spaces[kind], after, 3)
                visited += [record.key for record in page.pending]
                if page.size < 3:
                    return visited
                after = page.last

    return pages


@pytest.mark.parametrize("kind", _PAGED)
def test_paging_visits_each_record_once(
    kind: str, paged: Callable[..., list[tuple[str, ...]]], connection: psycopg.Connection[Any]
) -> None:
    @settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(_PAGED[kind], min_size=1, max_size=12))
    def visits(keys: list[Any]) -> None:
        visited = paged(kind, keys)
        connection.execute("SET TimeZone = 'UTC'")
        there = connection.execute("SELECT id::text, part::text FROM documents").fetchall()
        assert sorted(visited) == sorted(there)

    visits()
