"""A team's own function that rests on its search_path: the error says what lets it find its names."""

from __future__ import annotations

import re

import pytest

from support.adopting import adopts, give_vectors
from support.lab import SMALL, Lab
from vecmig.errors import ConfigError, DatabaseError, VecmigError

#: How a team writes such a function, with pgvector in the schema ``extensions``.
LANGUAGES = {
    "plpgsql": "LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1::vector; END'",
    "sql": "LANGUAGE sql IMMUTABLE AS 'SELECT $1::vector'",
}


@pytest.fixture
def lab(bare_lab: Lab) -> Lab:
    """Records with vectors, and a revision that adopts them through a function."""
    lab = bare_lab.write(chain=(SMALL,))
    lab.sql("CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)")
    lab.sql("INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) AS n")
    give_vectors(lab, "text")
    lab.sql("CREATE SCHEMA extensions; ALTER EXTENSION vector SET SCHEMA extensions")
    adopts(lab, "m.adopt('public.as_vector(embedding)')")
    return lab


def advised(error: VecmigError) -> str:
    """Give the statement that an error advises."""
    found = re.search(r"(ALTER FUNCTION .*);", error.hint)
    assert found is not None, f"{error.message}\n{error.hint}"
    return found[1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_advised_lets_a_function_make_vectors(lab: Lab, language: str) -> None:
    lab.sql(
        "SET search_path = public, extensions; "
        f"CREATE FUNCTION public.as_vector(text) RETURNS extensions.vector {LANGUAGES[language]}"
    )
    with pytest.raises(DatabaseError, match='type "vector" does not exist') as raised:
        lab.upgrade()
    assert advised(raised.value) == "ALTER FUNCTION public.as_vector(text) SET search_path = public, extensions"
    lab.sql(advised(raised.value))
    assert lab.upgrade() == ["live"]
    assert lab.cover(SMALL).fresh == 20


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_advised_lets_a_text_call_a_function(bare_lab: Lab, language: str) -> None:
    lab = bare_lab.write(chain=(SMALL,), text="app.text_of(title)")
    lab.sql("CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)")
    lab.sql("INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) AS n")
    lab.sql(
        "CREATE SCHEMA app; SET search_path = app; "
        "CREATE FUNCTION clean(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT trim($1)'; "
        f"CREATE FUNCTION text_of(text) RETURNS text {LANGUAGES[language].replace('$1::vector', 'clean($1)')}"
    )
    with pytest.raises((DatabaseError, ConfigError), match="clean") as raised:
        lab.upgrade()
    lab.sql(advised(raised.value))
    assert lab.upgrade() == ["live"]
    assert lab.cover(SMALL).fresh == 20


def test_a_function_that_says_where_it_looks_is_left_alone(lab: Lab) -> None:
    lab.sql(
        "CREATE FUNCTION public.as_vector(text) RETURNS extensions.vector "
        "LANGUAGE plpgsql IMMUTABLE SET search_path = extensions AS 'BEGIN RETURN gone($1); END'"
    )
    with pytest.raises(DatabaseError, match="gone") as raised:
        lab.upgrade()
    assert "ALTER FUNCTION" not in raised.value.hint
