"""No vector without a tag, and none that its tag cannot answer for: the database itself refuses, whoever writes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from support.embedding import Model, vector
from support.lab import LARGE, SMALL, TINY, Lab
from vecmig.errors import DatabaseError
from vecmig.homes.table import create_vectors_table
from vecmig.ledger.install import ensure

HASH = "'d41d8cd98f00b204e9800998ecf8427e'"
LIST = str(vector("x", 64).tolist())
INSERT = "INSERT INTO documents_vectors (tag, id, embedding, source_hash) VALUES ({tag}, 99, '{vector}', " + HASH + ")"


@pytest.fixture
def partition(lab: Lab, connection: psycopg.Connection[Any]) -> str:
    """The partition of SMALL, which is live."""
    return lab.stamps(SMALL).relation.as_string(connection)


REFUSED = (pg.NotNullViolation, pg.CheckViolation)


@pytest.mark.upgraded("r1")
def test_a_writer_with_a_wrong_tag(partition: str, connection: psycopg.Connection[Any]) -> None:
    for tag in ("NULL", "''", "'unknown@1/dim-64/chunk-none/norm-l2'", f"'{SMALL} '", f"'{LARGE}'"):
        with pytest.raises(REFUSED):
            connection.execute(INSERT.format(tag=tag, vector=LIST))
    with pytest.raises(REFUSED):
        connection.execute(f"INSERT INTO documents_vectors (id, embedding, source_hash) VALUES (99, '{LIST}', {HASH})")
    for change in ("tag = NULL", "tag = ''", "tag = 'other'", "embedding = NULL", "source_hash = NULL"):
        with pytest.raises(REFUSED):
            connection.execute(f"UPDATE documents_vectors SET {change} WHERE id = 1")


@pytest.mark.upgraded("r1")
def test_the_back_door_of_the_partition(partition: str, connection: psycopg.Connection[Any]) -> None:
    for tag in ("NULL", "''", "'other'", f"'{LARGE}'"):
        with pytest.raises(REFUSED):
            connection.execute(INSERT.format(tag=tag, vector=LIST).replace("documents_vectors", partition))
    other = str(vector("x", 256).tolist())
    with pytest.raises(REFUSED):
        connection.execute(INSERT.format(tag=f"'{SMALL}'", vector=other).replace("documents_vectors", partition))


@pytest.mark.upgraded("r1")
def test_a_vector_that_the_tag_cannot_have(partition: str, connection: psycopg.Connection[Any]) -> None:
    impossible = {
        "dims": ([1] + [0] * 62, pg.CheckViolation),
        "zero": ([0] * 64, pg.CheckViolation),
        "too long": ([1.02] + [0] * 63, pg.CheckViolation),
        "too short": ([0.98] + [0] * 63, pg.CheckViolation),
        "nan": ([float("nan")] + [0] * 63, pg.DataException),
        "infinite": ([float("inf")] + [0] * 63, pg.DataException),
    }
    for embedding, refusal in impossible.values():
        with pytest.raises(refusal):
            connection.execute(INSERT.format(tag=f"'{SMALL}'", vector=embedding))
        with pytest.raises(refusal):
            connection.execute(f"UPDATE documents_vectors SET embedding = '{embedding}' WHERE id = 1")
    connection.execute(INSERT.format(tag=f"'{SMALL}'", vector=LIST))


def test_a_zero_vector_under_cosine_without_norm(
    bare_lab: Lab, make_source: Any, connection: psycopg.Connection[Any]
) -> None:
    make_source(1)
    tag = "toy@1/dim-4/chunk-none/norm-none"
    bare_lab.write(chain=(tag,)).upgrade()
    with pytest.raises(pg.CheckViolation):
        connection.execute("UPDATE documents_vectors SET embedding = '[0,0,0,0]'")
    connection.execute("UPDATE documents_vectors SET embedding = '[3,0,0,4]'")


def test_odd_tags_keep_their_vectors_apart(
    bare_lab: Lab, make_source: Any, connection: psycopg.Connection[Any], model: Model
) -> None:
    """A tag may hold quotes, percent signs and braces: it stands as a literal in views, functions and constraints."""
    make_source(3)
    chain = ["o'm\"o\\d%s{x}$$/é@1/dim-4/chunk-none/norm-l2", "m%%@1/dim-4/chunk-none/norm-l2", TINY]
    lab = bare_lab.write(chain=chain)
    assert lab.upgrade() == ["live"] * 3
    assert lab.downgrade("-2") == ["r3", "r2"]
    assert lab.live == chain[0]
    assert connection.execute("SELECT DISTINCT tag FROM documents_live").fetchall() == [(chain[0],)]
    found = connection.execute("SELECT id FROM documents_search('[1,0,0,0]', 1, %s)", [chain[0]]).fetchall()
    assert len(found) == 1
    assert lab.upgrade() == ["live"] * 2
    assert model.total() == 9


@pytest.mark.upgraded("r2", until="index")
def test_a_constraint_that_only_has_the_name_guarantees_nothing(lab: Lab, connection: psycopg.Connection[Any]) -> None:
    relation = lab.stamps(LARGE).relation.as_string(connection)
    assert lab.checks()["vectors"]
    connection.execute(f"ALTER TABLE {relation} DROP CONSTRAINT vecmig_vector")
    assert not lab.checks()["vectors"]
    connection.execute(f"ALTER TABLE {relation} ADD CONSTRAINT vecmig_vector CHECK (true)")
    assert not lab.checks()["vectors"]


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
@pytest.mark.parametrize("kind", ["l2/cosine", "none/cosine", "none/l2"])
def test_the_constraint_is_known_by_its_definition(
    bare_lab: Lab, make_source: Any, connection: psycopg.Connection[Any], storage: str, kind: str
) -> None:
    make_source(1)
    norm, metric = kind.split("/")
    tag = f"toy@1/dim-4/chunk-none/norm-{norm}"
    lab = bare_lab.write(chain=(tag,), options={"storage": storage, "metric": metric})
    lab.upgrade(until="index")
    assert lab.checks()["vectors"]
    partition = lab.stamps(tag).relation.as_string(connection)
    connection.execute(f"ALTER TABLE {partition} RENAME CONSTRAINT vecmig_vector TO ours")
    assert lab.checks()["vectors"]
    row = connection.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'ours'").fetchone()
    assert row is not None
    again = f"ALTER TABLE {partition} DROP CONSTRAINT ours, ADD CONSTRAINT ours {row[0]}"
    connection.execute(f"{again} NOT VALID")
    assert not lab.checks()["vectors"], "what is there already was never checked"
    connection.execute(f"ALTER TABLE {partition} VALIDATE CONSTRAINT ours")
    assert lab.checks()["vectors"]


@pytest.mark.upgraded("r2", until="index")
def test_the_constraint_is_known_wherever_the_extension_is(lab: Lab, connection: psycopg.Connection[Any]) -> None:
    """The wording of a definition depends on the path and on the extension's schema."""
    connection.execute('CREATE SCHEMA "the extensions"; ALTER EXTENSION vector SET SCHEMA "the extensions"')
    assert lab.checks()["vectors"]
    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET search_path = 'the extensions', public")
    assert lab.checks()["vectors"]


# Whose table it is ---------------------------------------------------------------------------------------------------

_TRIGGERS_AND_VIEW = """
SELECT tgname, tgfoid::regprocedure::text FROM pg_trigger WHERE tgrelid = 'documents'::regclass
UNION ALL
SELECT 'view', pg_get_viewdef('documents_live'::regclass)
ORDER BY 1
"""
COMMENT = "SELECT obj_description('documents_vectors'::regclass)"


@pytest.mark.upgraded("r1", until="expand")
def test_a_table_of_another_ledger_is_refused(lab: Lab, connection: psycopg.Connection[Any]) -> None:
    """Two ledgers over one table would each retire and sweep what the other one knows nothing of."""
    comment = 'vecmig (ledger in schema "vecmig"): the vectors of documents, one partition per tag'
    assert connection.execute(COMMENT).fetchall() == [(comment,)]
    ensure(replace(lab.database, schema='odd "schema'))
    with lab.opened(SMALL) as (session, stamps):
        for schema in ("other", 'odd "schema'):
            with pytest.raises(DatabaseError) as refused:
                create_vectors_table(session, stamps.source, schema)
            assert "belong to the ledger in schema vecmig; this project's is in" in refused.value.message
            assert refused.value.state == "Nothing was changed."
            assert "Set schema = vecmig in vecmig.ini" in str(refused.value.hint)
        create_vectors_table(session, stamps.source, "vecmig")
        session.execute("COMMENT ON TABLE vecmig.documents_vectors IS NULL")
        create_vectors_table(session, stamps.source, 'odd "schema')
        create_vectors_table(session, stamps.source, 'odd "schema')
        with pytest.raises(DatabaseError, match='belong to the ledger in schema odd "schema;'):
            create_vectors_table(session, stamps.source, "vecmig")


@pytest.mark.parametrize("options", [{}, {"change_tracking": "scan"}])
def test_triggers_and_live_view_of_another_ledger_are_left_to_it(lab: Lab, options: dict[str, str]) -> None:
    """Each ledger has a vectors table of its own, but one name of the collection is one name for the rest."""
    lab.write(options=options).upgrade("r1")
    made = lab.sql(_TRIGGERS_AND_VIEW)
    settings = lab.path / "vecmig.ini"
    settings.write_text(settings.read_text() + "\nschema = other\n")
    with pytest.raises(DatabaseError) as refused:
        lab.upgrade("r1")
    assert "of documents belong to the ledger in schema vecmig; this project's is in other" in refused.value.message
    assert refused.value.state == "Nothing was changed."
    assert lab.sql(_TRIGGERS_AND_VIEW) == made


@pytest.mark.upgraded("r1", until="expand")
def test_a_comment_of_an_earlier_version_is_rewritten_and_a_teams_own_is_kept(
    lab: Lab, connection: psycopg.Connection[Any]
) -> None:
    new = connection.execute(COMMENT).fetchall()
    old = "vecmig: the vectors of documents, one partition per tag"
    for before, after in ((old, new), ("our vectors", [("our vectors",)])):
        connection.execute(f"COMMENT ON TABLE documents_vectors IS '{before}'")
        with lab.opened(SMALL) as (session, stamps):
            create_vectors_table(session, stamps.source, "vecmig")
        assert connection.execute(COMMENT).fetchall() == after
