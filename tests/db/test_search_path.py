"""Whoever may create in a schema lends vecmig nothing: neither its own sessions nor what they leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from support.embedding import Model, vector
from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.errors import ConfigError
from vecmig.freshness.pending import read_page, split_keys

Connection = psycopg.Connection[Any]

#: What fits a varchar better than what PostgreSQL has, which is for text.
_OPERATORS = {
    "=": "bool",
    "<>": "bool",
    "<": "bool",
    ">": "bool",
    "<=": "bool",
    ">=": "bool",
    "~": "bool",
    "||": "text",
}
_FUNCTIONS = {
    "md5(varchar)": "text",
    "left(varchar, int)": "text",
    "length(varchar)": "int",
    "octet_length(varchar)": "int",
    "format(text, text, text)": "text",
    "concat_ws(text, varchar)": "text",
    "jsonb_build_array(varchar)": "jsonb",
    "json_build_array(text)": "json",
    "to_jsonb(varchar)": "jsonb",
    "abs(real)": "float8",
    "set_config(text, text, boolean, int DEFAULT 0)": "text",
}
_BODY = "LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''taken over as %'', current_user; END'"


def _plant(connection: Connection) -> None:
    """Do what anybody could do in public before PostgreSQL 15."""
    connection.execute("CREATE ROLE somebody; GRANT CREATE ON SCHEMA public TO somebody; SET ROLE somebody")
    for function, result in _FUNCTIONS.items():
        connection.execute(f"CREATE FUNCTION public.{function} RETURNS {result} {_BODY}")
    for at, (operator, result) in enumerate(_OPERATORS.items()):
        connection.execute(f"CREATE FUNCTION public.o{at}(varchar, varchar) RETURNS {result} {_BODY}")
        arguments = f"LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.o{at}"
        connection.execute(f"CREATE OPERATOR public.{operator} ({arguments})")
    connection.execute(f"CREATE FUNCTION public.step(varchar, varchar) RETURNS varchar {_BODY}")
    connection.execute("CREATE AGGREGATE public.count(varchar) (SFUNC = public.step, STYPE = varchar)")
    connection.execute("RESET ROLE")


@pytest.fixture
def attacked(bare_lab: Lab, connection: Connection) -> Iterator[Lab]:
    """A source whose columns are varchar, in a database where somebody else has made operators for them."""
    connection.execute("CREATE TABLE documents (id varchar PRIMARY KEY, part varchar, body varchar, state varchar)")
    connection.execute("INSERT INTO documents SELECT 'k' || n, 'p', 'text ' || n, 'on' FROM generate_series(1, 20) n")
    lab = bare_lab.write(text="part || ' ' || body", options={"where": "state = 'on'"})
    _plant(connection)
    yield lab
    connection.execute("DROP OWNED BY somebody CASCADE; DROP ROLE somebody")


def test_operators_of_somebody_elses_are_never_called(attacked: Lab, connection: Connection) -> None:
    with pytest.raises(pg.RaiseException, match="taken over as postgres"):
        connection.execute("SELECT FROM public.documents WHERE id = 'k1'")
    lab = attacked
    query = str(vector("p text 7", 256).tolist())
    assert lab.upgrade() == ["live", "live"]
    with lab.reader() as reader:
        assert [hit.key for hit in reader.search("documents", "p text 3", 1)] == [("k3",)]
        assert [hit.key for hit in reader.search("documents", "p text 3", 1, where="id <> 'k3'")] != [("k3",)]
    assert connection.execute("SELECT id FROM documents_search(%s::vector, 1)", [query]).fetchall() == [("k7",)]
    assert connection.execute("SELECT count(*) FROM documents_live").fetchone() == (20,)

    connection.execute("UPDATE documents SET body = 'other' WHERE ctid = '(0,1)'")
    connection.execute("UPDATE documents SET id = 'k99' WHERE ctid = '(0,2)'")
    connection.execute("DELETE FROM documents WHERE ctid = '(0,3)'")
    lab.sync()
    assert lab.cover(LARGE).share == lab.cover(SMALL).share == 1.0
    assert lab.status().outbox.records == 0
    assert runner.audit(lab.config).collections == ("documents",)
    assert lab.downgrade() == ["r2"]
    assert lab.downgrade("-1") == ["r1"]
    assert lab.upgrade() == ["live", "live"]


def test_the_live_view_has_no_operator_of_somebody_elses(attacked: Lab, connection: Connection) -> None:
    attacked.upgrade()
    rows = connection.execute(
        "SELECT o.oid::regoperator::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid "
        "JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid "
        "WHERE r.ev_class = 'documents_live'::regclass AND o.oprcode::text LIKE 'o%'"
    )
    assert rows.fetchall() == []


# What a team wrote -----------------------------------------------------------------------------------------------


def test_an_expression_is_told_to_name_the_schema_of_what_it_uses(lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE FUNCTION plain(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)'")
    with pytest.raises(ConfigError, match="function plain") as refused:
        lab.write(text="plain(body)").upgrade()
    assert "public.unaccent(title)" in refused.value.hint
    assert lab.write(text="public.plain(body)").upgrade() == ["live", "live"]


def test_a_teams_own_statements_and_names_follow_its_own_path(lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE SCHEMA own; ALTER TABLE documents SET SCHEMA own; CREATE TABLE own.notes (n int)")
    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET search_path = own, public")
    lab = lab.write(source="documents", chain=(SMALL,))
    script = lab.path / "migrations" / "versions" / "r1.py"
    lines = '    m.expand()\n    m.execute("INSERT INTO notes VALUES (1)")\n    m.execute("SELECT FROM notes")'
    script.write_text(script.read_text().replace("    m.expand()", lines))
    assert lab.upgrade() == ["live"]
    assert connection.execute("SELECT n FROM own.notes").fetchall() == [(1,)]
    assert connection.execute("SELECT count(*) FROM own.documents_live").fetchone() == (20,)


# Keys whose operators lie elsewhere ------------------------------------------------------------------------------


def _create_word(connection: Connection, schema: str) -> None:
    """Make a type as citext is: it is compared by operators of its own, and passes for a text where none fits."""
    connection.execute(
        f"CREATE SCHEMA IF NOT EXISTS {schema}; SET search_path = {schema}; SET client_min_messages = error"
    )
    connection.execute("CREATE TYPE word")
    for name, source in (("textin", "cstring"), ("textrecv", "internal")):
        signature = f"{name.replace('text', 'word')}({source}) RETURNS word"
        connection.execute(f"CREATE FUNCTION {signature} LANGUAGE internal IMMUTABLE STRICT AS '{name}'")
    for name, result in (("textout", "cstring"), ("textsend", "bytea")):
        signature = f"{name.replace('text', 'word')}(word) RETURNS {result}"
        connection.execute(f"CREATE FUNCTION {signature} LANGUAGE internal IMMUTABLE STRICT AS '{name}'")
    connection.execute(
        "CREATE TYPE word (INPUT = wordin, OUTPUT = wordout, RECEIVE = wordrecv, SEND = wordsend, LIKE = text, "
        "CATEGORY = 'S', COLLATABLE = true); CREATE CAST (word AS text) WITHOUT FUNCTION AS IMPLICIT"
    )
    for operator, name in (("=", "eq"), ("<", "lt"), ("<=", "le"), (">", "gt"), (">=", "ge")):
        body = f"SELECT pg_catalog.lower($1::text) {operator} pg_catalog.lower($2::text)"
        connection.execute(
            f"CREATE FUNCTION word_{name}(word, word) RETURNS bool LANGUAGE sql IMMUTABLE AS '{body}'; "
            f"CREATE OPERATOR {operator} (LEFTARG = word, RIGHTARG = word, FUNCTION = word_{name}, MERGES)"
        )
    connection.execute(
        "CREATE FUNCTION word_cmp(word, word) RETURNS int LANGUAGE sql IMMUTABLE AS "
        "'SELECT pg_catalog.bttextcmp(pg_catalog.lower($1::text), pg_catalog.lower($2::text))'; "
        "CREATE OPERATOR CLASS word_ops DEFAULT FOR TYPE word USING btree AS "
        "OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 word_cmp(word, word)"
    )
    connection.execute("RESET search_path; RESET client_min_messages")


@pytest.mark.parametrize("columns", ["id word", "id word, part int", "part int, id word", "id deep, part int"])
@pytest.mark.parametrize("schema", ["public", "words"])
def test_keys_are_compared_and_paged_in_the_order_of_their_own_type(
    bare_lab: Lab, connection: Connection, model: Model, columns: str, schema: str
) -> None:
    """As text, B comes before a in one order and behind it in the other: pages would pass records by."""
    _create_word(connection, schema)
    connection.execute(f"CREATE DOMAIN {schema}.flat AS {schema}.word; CREATE DOMAIN {schema}.deep AS {schema}.flat")
    typed = columns.replace("word", f"{schema}.word").replace("deep", f"{schema}.deep")
    key = [column.split()[0] for column in columns.split(", ")]
    connection.execute(f"CREATE TABLE documents ({typed}, body text, PRIMARY KEY ({', '.join(key)}))")
    values = ", ".join(
        "(CASE WHEN n % 2 = 0 THEN chr(96 + n) ELSE chr(64 + n) END)" if name == "id" else "n % 3" for name in key
    )
    connection.execute(
        f"INSERT INTO documents ({', '.join(key)}, body) SELECT {values}, 'b' || n FROM generate_series(1, 26) n"
    )
    lab = bare_lab.write(key=key, text="body")
    assert lab.upgrade() == ["live", "live"]
    assert model.total() == 52
    with lab.opened(SMALL) as (session, stamps):
        session.execute(f"TRUNCATE {stamps.relation.as_string(None)}")
        found, after = [], None
        while (page := read_page(session, stamps, after, 5)).last is not None:
            found += [record.key for record in page.pending]
            after = page.last
        assert len(found) == len(set(found)) == 26
        assert found == [
            tuple(map(str, row))
            for row in connection.execute(f"SELECT {', '.join(key)} FROM documents ORDER BY {', '.join(key)}")
        ]
        assert len(split_keys(session, stamps.source, 4)) == 3
    lab.sync()
    # it is the same key in other letters, for the type
    connection.execute("UPDATE documents SET body = 'new' WHERE id::text IN ('b', 'C')")
    connection.execute("DELETE FROM documents WHERE id::text = 'd'")
    lab.sync()
    assert lab.cover(SMALL).share == lab.cover(LARGE).share == 1.0
    assert connection.execute("SELECT count(*) FROM documents_live").fetchone() == (25,)
    assert not [finding for finding in runner.audit(lab.config).findings if finding.severity == "error"]


def test_a_type_that_was_recorded_without_its_schema_is_the_same_one(bare_lab: Lab, connection: Connection) -> None:
    _create_word(connection, "public")
    connection.execute(
        "CREATE TABLE documents (id word PRIMARY KEY, body text); INSERT INTO documents VALUES ('a', 'b')"
    )
    lab = bare_lab.write(text="body", chain=(SMALL,))
    lab.upgrade()
    connection.execute("UPDATE vecmig.collection SET key_types = '{word}'")
    assert lab.sync()
    connection.execute("UPDATE vecmig.collection SET key_types = '{word,word}'")
    with pytest.raises(Exception, match="was word, word when"):
        lab.sync()
