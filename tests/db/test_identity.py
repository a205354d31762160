"""vecmig follows what a team does to its table: the relation and the columns' numbers count, names are for people."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from support.postgres import Postgres
from vecmig import runner
from vecmig.errors import DatabaseError
from vecmig.events import Warned
from vecmig.inventory.standing import standing

COUNT = 20


@pytest.fixture
def live(lab: Lab, model: Model) -> Lab:
    """A project whose second revision is live, and that has nothing left to do."""
    model.embedded.clear()
    lab.events.clear()
    return lab


def vectors_table(lab: Lab) -> str:
    """The table of the vectors, wherever it lies."""
    return str(lab.sql("SELECT oid::regclass::text FROM pg_class WHERE relname = 'documents_vectors'")[0][0])


def told(lab: Lab) -> list[str]:
    """What the commands warned of."""
    return list(dict.fromkeys(event.message for event in lab.events if isinstance(event, Warned)))


def found(lab: Lab, text: str = "title 3\n\nbody 3") -> Any:
    """The key of the nearest record, as the reader finds it."""
    with lab.reader() as reader:
        return reader.search(lab.name, text, k=1)[0].key[0]


def shown(lab: Lab, schema: str = "public") -> tuple[int, int]:
    """How many records the live view shows, and how many the search function finds."""
    function = f"{schema}.documents_search((SELECT embedding FROM {schema}.documents_live LIMIT 1), 100)"
    return (
        lab.sql(f"SELECT count(*) FROM {schema}.documents_live")[0][0],
        lab.sql(f"SELECT count(*) FROM {function}")[0][0],
    )


def stays_complete(lab: Lab, model: Model, table: str, key: str = "id") -> None:
    """A sync buys nothing, and afterwards an edit, a new record and a deletion are followed as ever."""
    model.embedded.clear()
    lab.sync()
    assert not model.embedded, "what the team has is not bought again"
    lab.sql(f"UPDATE {table} SET body = 'edited' WHERE {key} = 1")
    lab.sql(f"INSERT INTO {table} ({key}, title, body) VALUES (100, 'new', 'record')")
    lab.sql(f"DELETE FROM {table} WHERE {key} = 2")
    assert {key for (key,) in lab.sql("SELECT key ->> 0 FROM vecmig.change")} == {"1", "100"}
    covered = lab.sync()
    assert all(one.fresh == one.eligible == COUNT for one in covered.values())
    assert lab.sql("SELECT count(*) FROM vecmig.change") == [(0,)]
    assert shown(lab) == (COUNT, COUNT)
    assert lab.status().problem is None


# Names -----------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_a_renamed_table_is_followed(live: Lab, model: Model) -> None:
    live.sql("ALTER TABLE documents RENAME TO posts")
    assert found(live) == 3, "search goes on at once"
    assert live.status().name == "documents"
    stays_complete(live, model, "posts")
    says = "collections.yaml names public.documents, which is called public.posts now: correct source: of documents"
    assert says in told(live)
    assert live.downgrade() == ["r2"]
    assert live.live == SMALL
    assert live.upgrade() == ["live"]
    live.events.clear()
    live.write(source="public.posts").sync()
    assert told(live) == []


@pytest.mark.upgraded
def test_a_table_in_another_schema_is_followed(live: Lab, model: Model) -> None:
    """The view and the function stay where the applications look."""
    live.sql("CREATE SCHEMA app")
    live.sql("ALTER TABLE documents SET SCHEMA app")
    assert found(live) == 3
    stays_complete(live, model, "app.documents")
    assert "which is called app.documents now" in told(live)[0]
    assert live.downgrade() == ["r2"]
    live.write(source="app.documents").sync()
    assert shown(live) == (COUNT, COUNT)


@pytest.mark.upgraded
def test_a_moved_table_has_its_search_function_where_it_was(live: Lab) -> None:
    live.sql("CREATE SCHEMA app")
    live.sql("ALTER TABLE documents SET SCHEMA app")
    live.sync()
    live.sql("CREATE FUNCTION app.documents_search() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    assert live.status().problem is None
    source = live.inspected()
    with live.database.session() as connection:
        before = standing(connection, source)
        assert standing(connection, source) == before
        live.sql("DROP FUNCTION public.documents_search")
        assert standing(connection, source) != before
    problem = live.status().problem
    assert problem is not None
    assert "the search function is gone" in problem.message


def test_a_renamed_schema_is_followed(bare_lab: Lab, model: Model, connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE SCHEMA app")
    connection.execute("CREATE TABLE app.documents (id bigint PRIMARY KEY, title text, body text)")
    connection.execute("INSERT INTO app.documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n")
    lab = bare_lab.write(source="app.documents")
    lab.upgrade()
    lab.sql("ALTER SCHEMA app RENAME TO shop")
    assert found(lab) == 3
    model.embedded.clear()
    lab.sync()
    assert not model.embedded
    assert shown(lab, "shop") == (COUNT, COUNT)
    lab.sql("UPDATE shop.documents SET body = 'edited' WHERE id = 1")
    assert lab.sync()["documents", LARGE].fresh == COUNT
    assert model.total(256) == 1


@pytest.mark.upgraded
def test_a_renamed_key_is_followed(live: Lab, model: Model) -> None:
    live.sql("ALTER TABLE documents RENAME COLUMN id TO doc_id")
    assert found(live) == 3, "search goes on at once"
    stays_complete(live, model, "documents", key="doc_id")
    says = "collections.yaml names the key column id, which is called doc_id now: correct key: of documents"
    assert says in told(live)
    assert live.sql("SELECT id FROM documents_live ORDER BY id LIMIT 1") == [(1,)], "the view keeps its columns"
    assert live.downgrade() == ["r2"]
    assert live.upgrade() == ["live"]
    live.events.clear()
    live.write(key=["doc_id"]).sync()
    assert told(live) == []
    assert found(live) == 3
    assert live.downgrade("base") == ["r2", "r1"]


@pytest.mark.upgraded
def test_a_key_that_is_called_like_a_column_of_the_vectors_is_followed_too(live: Lab, model: Model) -> None:
    live.sql("ALTER TABLE documents RENAME COLUMN id TO tag")
    assert found(live) == 3
    stays_complete(live, model, "documents", key="tag")
    (note,) = told(live)
    assert note == (
        "collections.yaml names the key column id, which is called tag now: leave key: of documents as it is, because "
        "the vectors have a column of that name"
    )
    live.sql("DROP VIEW documents_live")
    live.sync()
    assert shown(live) == (COUNT, COUNT)
    assert live.downgrade("base") == ["r2", "r1"]


@pytest.mark.upgraded
def test_another_column_under_the_old_name_is_not_the_key(live: Lab, model: Model) -> None:
    live.sql("ALTER TABLE documents RENAME COLUMN id TO doc_id")
    live.sql("ALTER TABLE documents ADD COLUMN id uuid DEFAULT gen_random_uuid()")
    assert found(live) == 3
    stays_complete(live, model, "documents", key="doc_id")


def test_columns_that_a_table_lost_before_do_not_matter(bare_lab: Lab, model: Model) -> None:
    bare_lab.sql("CREATE TABLE documents (gone int, id bigint PRIMARY KEY, title text, body text)")
    bare_lab.sql("ALTER TABLE documents DROP COLUMN gone")
    bare_lab.sql("INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n")
    bare_lab.write().upgrade()
    bare_lab.sql("ALTER TABLE documents RENAME COLUMN id TO doc_id")
    stays_complete(bare_lab, model, "documents", key="doc_id")


@pytest.mark.upgraded
def test_a_renamed_text_column_is_named(live: Lab) -> None:
    live.sql("ALTER TABLE documents RENAME COLUMN body TO content")
    problem = live.status().problem
    assert problem is not None
    assert "body is called content now" in problem.hint


@pytest.mark.upgraded
def test_a_moved_extension_is_followed(live: Lab, model: Model) -> None:
    live.sql("CREATE SCHEMA extensions")
    live.sql("ALTER EXTENSION vector SET SCHEMA extensions")
    assert found(live) == 3, "search goes on at once"
    assert live.status().problem is not None, "the search function names what is gone"
    stays_complete(live, model, "documents")
    assert live.downgrade() == ["r2"]
    assert live.upgrade() == ["live"]


# A wider key ---------------------------------------------------------------------------------------------------------


def keyed(lab: Lab, key: str) -> Lab:
    """A project that is done, on a table with a key of another type."""
    lab.sql(f"CREATE TABLE documents (id {key} PRIMARY KEY, title text, body text)")
    lab.sql("INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n")
    lab.write().upgrade()
    return lab


def alter_key(lab: Lab, key: str) -> None:
    """Do what a team does when PostgreSQL says that the view and the trigger are in the way."""
    lab.sql("DROP VIEW documents_live")
    lab.sql("DROP TRIGGER vecmig_documents_track_update ON documents")
    lab.sql(f"DROP POLICY IF EXISTS vecmig_as_source ON {vectors_table(lab)}")
    lab.sql(f"ALTER TABLE documents ALTER COLUMN id TYPE {key} USING id::{key}")


WIDER = [
    ("smallint", "bigint"),
    ("integer", "bigint"),
    ("varchar(10)", "varchar(20)"),
    ("varchar(10)", "text"),
    ("numeric(6,0)", "numeric(12,0)"),
]


@pytest.mark.parametrize(("then", "now"), WIDER, ids=[f"{then} to {now}" for then, now in WIDER])
def test_a_wider_key_is_followed(bare_lab: Lab, model: Model, then: str, now: str) -> None:
    lab = keyed(bare_lab, then)
    lab.sql("REVOKE EXECUTE ON FUNCTION documents_search FROM PUBLIC")
    lab.sql("GRANT EXECUTE ON FUNCTION documents_search TO pg_monitor")
    alter_key(lab, now)
    model.embedded.clear()
    assert found(lab) in (3, "3"), "search goes on at once"
    assert lab.status().problem is not None
    lab.sync()
    assert not model.embedded, "nothing is bought again"
    types = "SELECT DISTINCT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'id' AND attrelid IN "
    trees = f"(SELECT relid FROM pg_partition_tree('{vectors_table(lab)}') UNION SELECT 'documents'::regclass)"
    assert len(lab.sql(types + trees)) == 1
    granted = "SELECT has_function_privilege('pg_monitor', 'documents_search(vector,int,text)', 'EXECUTE')"
    assert lab.sql(granted) == [(True,)]
    lab.sql("INSERT INTO documents (id, title, body) VALUES (100, 'new', 'record')")
    lab.sql("DELETE FROM documents WHERE id::text = '2'")
    assert all(one.fresh == one.eligible == COUNT for one in lab.sync().values())
    assert shown(lab) == (COUNT, COUNT)
    assert lab.status().problem is None
    assert {tag.index.word for tag in lab.status().tags} == {"valid"}
    assert lab.downgrade() == ["r2"]


@pytest.mark.parametrize("protected", [False, True], ids=["open", "with row-level security"])
def test_a_view_that_steps_aside_lets_the_key_be_widened(bare_lab: Lab, model: Model, protected: bool) -> None:
    bare_lab.sql("CREATE TABLE documents (id int PRIMARY KEY, title text, body text)")
    bare_lab.sql("INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n")
    if protected:
        bare_lab.sql("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    bare_lab.write().upgrade()
    bare_lab.sql("GRANT SELECT ON documents_live TO pg_monitor")
    runner.detach_view(bare_lab.config, "documents")
    if protected:
        # it names the source's key, and what detaches the view must not open the vectors
        bare_lab.sql(f"DROP POLICY vecmig_as_source ON {vectors_table(bare_lab)}")
    bare_lab.sql("ALTER TABLE documents ALTER COLUMN id TYPE bigint")
    runner.attach_view(bare_lab.config, "documents")
    model.embedded.clear()
    bare_lab.sync()
    assert not model.embedded
    bare_lab.sql("INSERT INTO documents VALUES (5000000000, 'a', 'b')")
    assert bare_lab.sync()["documents", LARGE].fresh == COUNT + 1
    assert shown(bare_lab) == (COUNT + 1, COUNT + 1)
    assert bare_lab.sql("SELECT has_table_privilege('pg_monitor', 'documents_live', 'SELECT')") == [(True,)]


def test_a_wider_key_keeps_its_collation(bare_lab: Lab) -> None:
    lab = keyed(bare_lab, 'varchar(10) COLLATE "C"')
    lab.sql("DROP VIEW documents_live")
    lab.sql("DROP TRIGGER vecmig_documents_track_update ON documents")
    lab.sql('ALTER TABLE documents ALTER COLUMN id TYPE text COLLATE "C"')
    lab.sync()
    collations = "SELECT DISTINCT attcollation::regcollation::text FROM pg_attribute WHERE attname = 'id'"
    of_all = f"attrelid IN (SELECT relid FROM pg_partition_tree('{vectors_table(lab)}'))"
    assert lab.sql(f"{collations} AND {of_all}") == [('"C"',)]


def test_what_is_rewritten_is_said_before(bare_lab: Lab) -> None:
    lab = keyed(bare_lab, "integer")
    alter_key(lab, "bigint")
    lab.events.clear()
    lab.sync()
    (said,) = told(lab)
    assert said.startswith("The key of documents is bigint now: ")
    assert said.endswith("rewritten, and meanwhile neither read nor written; then their indexes are built again")
    lab.sql("INSERT INTO documents VALUES (5000000000, 'a', 'b')")
    assert lab.sync()["documents", LARGE].fresh == COUNT + 1


def test_a_wider_key_is_followed_with_row_level_security(bare_lab: Lab) -> None:
    bare_lab.sql("CREATE TABLE documents (id int PRIMARY KEY, title text, body text)")
    bare_lab.sql("INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n")
    bare_lab.sql("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    bare_lab.write().upgrade()
    policies = "SELECT polrelid::regclass::text, pg_get_expr(polqual, polrelid) FROM pg_policy ORDER BY 1"
    before = bare_lab.sql(policies)
    alter_key(bare_lab, "bigint")
    bare_lab.sync()
    assert [name for name, _ in bare_lab.sql(policies)] == [name for name, _ in before]


@pytest.mark.parametrize(("then", "now"), [("bigint", "integer"), ("text", "integer"), ("bigint", "text")])
def test_a_key_of_another_meaning_is_refused(bare_lab: Lab, then: str, now: str) -> None:
    lab = keyed(bare_lab, then)
    alter_key(lab, now)
    says = f"The key of documents was {then} when its vectors were made, and is {now} now"
    with pytest.raises(DatabaseError, match=says) as refused:
        lab.sync()
    assert "another name" in refused.value.hint
    problem = lab.status().problem
    assert problem is not None
    assert says in problem.message


# What the ledger knows -----------------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_in_another_database_names_count(live: Lab, connection: psycopg.Connection[Any]) -> None:
    """The oids of a restored ledger mean nothing; the next command that may writes down those of this database."""
    live.sql("UPDATE vecmig.collection SET source_oid = 'pg_class'::regclass, identity_of = 'another/1/2'")
    assert found(live) == 3
    live.sync()
    assert live.sql("SELECT source_oid::regclass::text, key_numbers FROM vecmig.collection") == [("documents", [1])]
    live.sql("ALTER TABLE documents RENAME TO posts")
    assert found(live) == 3


@pytest.mark.upgraded
def test_a_copy_of_the_database_has_an_identity_of_its_own(
    live: Lab, model: Model, postgres: Postgres, connection: psycopg.Connection[Any]
) -> None:
    # a database is copied only while nobody uses it
    connection.close()
    (name,) = live.sql("SELECT current_database()")[0]
    whose = "SELECT identity_of FROM vecmig.collection"
    before = live.sql(whose)
    postgres.execute(sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}").format(name))
    copy = postgres.create_database(template=name)
    try:
        lab = live.write(url=postgres.url(copy))
        lab.sync()
        assert not model.embedded
        assert lab.sql(whose) != before
    finally:
        postgres.drop_database(copy)
    assert live.sql(whose) == before


@pytest.mark.upgraded
def test_a_ledger_of_an_earlier_version_is_filled(live: Lab) -> None:
    live.sql("UPDATE vecmig.collection SET source_oid = NULL, key_numbers = NULL, identity_of = NULL")
    assert found(live) == 3
    assert live.status().problem is None
    live.sync()
    assert live.sql("SELECT source_oid::regclass::text FROM vecmig.collection") == [("documents",)]
