"""Another table under the source's name: a person decides, no vector is lost, and nothing is bought again."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.errors import ConfigError, DatabaseError, UsageError
from vecmig.ledger.identity import SourceReplaced
from vecmig.runner import adopt_source

COUNT = 20


@pytest.fixture
def live(lab: Lab, model: Model) -> Lab:
    """A project whose second revision is live, and that has nothing left to do."""
    model.embedded.clear()
    return lab


def fill(lab: Lab, table: str, columns: str = "id bigint PRIMARY KEY, title text, body text") -> None:
    """Make a table with the same records, but for the third."""
    lab.sql(f"CREATE TABLE {table} ({columns})")
    lab.sql(f"INSERT INTO {table} (id, title, body) SELECT id, title, body FROM documents")
    lab.sql(f"UPDATE {table} SET body = 'reloaded' WHERE id = 3")


def swap(lab: Lab, columns: str = "id bigint PRIMARY KEY, title text, body text") -> None:
    """Load into another table and let the two change names, as a nightly reload does."""
    fill(lab, "documents_new", columns)
    lab.sql("ALTER TABLE documents RENAME TO documents_swap")
    lab.sql("ALTER TABLE documents_new RENAME TO documents")
    lab.sql("ALTER TABLE documents_swap RENAME TO documents_new")


def vectors_table(lab: Lab) -> str:
    """The table of the vectors, wherever it lies."""
    return str(lab.sql("SELECT oid::regclass::text FROM pg_class WHERE relname = 'documents_vectors'")[0][0])


def vectors(lab: Lab) -> int:
    """How many vectors there are, of all tags."""
    return int(lab.sql(f"SELECT count(*) FROM {vectors_table(lab)}")[0][0])


def found(lab: Lab) -> Any:
    """The key of the nearest record."""
    with lab.reader() as reader:
        return reader.search(lab.name, "title 5\n\nbody 5", k=1)[0].key[0]


def shown(lab: Lab) -> tuple[int, int]:
    """How many records the live view shows, and how many the search function finds."""
    function = "documents_search((SELECT embedding FROM documents_live LIMIT 1), 100)"
    return (
        lab.sql("SELECT count(*) FROM documents_live")[0][0],
        lab.sql(f"SELECT count(*) FROM {function}")[0][0],
    )


def is_followed(lab: Lab, model: Model) -> None:
    """After an adoption a sync buys the one text that differs, under both tags, and edits are followed as ever."""
    assert vectors(lab) == 2 * COUNT, "every vector is kept"
    assert lab.status().full_pass
    model.embedded.clear()
    lab.sync()
    assert (model.total(64), model.total(256)) == (1, 1)
    lab.sql("UPDATE documents SET body = 'edited' WHERE id = 1")
    lab.sql("DELETE FROM documents WHERE id = 2")
    assert {key for (key,) in lab.sql("SELECT key ->> 0 FROM vecmig.change")} == {"1"}
    assert vectors(lab) == 2 * (COUNT - 1)
    assert all(one.fresh == one.eligible == COUNT - 1 for one in lab.sync().values())
    assert shown(lab) == (COUNT - 1, COUNT - 1)
    assert lab.status().problem is None
    assert not lab.status().full_pass
    assert lab.downgrade() == ["r2"]
    assert lab.upgrade() == ["live"]


@pytest.mark.upgraded
def test_tables_that_change_names_are_for_a_person_to_judge(live: Lab, model: Model) -> None:
    swap(live)
    says = "public.documents is another table than the one whose vectors documents has: that is called "
    with pytest.raises(SourceReplaced) as refused:
        live.sync()
    assert refused.value.message == f"{says}public.documents_new now."
    assert "vecmig adopt-source documents" in refused.value.hint
    with pytest.raises(SourceReplaced):
        live.write(chain=(SMALL, LARGE, "toy@1/dim-4/chunk-none/norm-l2")).upgrade()
    live.write()
    status = runner.status(live.config)
    assert status.next_command == "vecmig adopt-source documents"
    assert status.collections[0].problem is not None
    assert [one.kind for one in runner.audit(live.config, ask=False).findings] == ["source replaced"]
    assert found(live) == 5, "search goes on"
    assert vectors(live) == 2 * COUNT

    adopted = adopt_source(live.config, "documents")
    assert (adopted.source, adopted.before, adopted.changed) == ("public.documents", "public.documents_new", True)
    live.sql("TRUNCATE documents_new")
    is_followed(live, model)


@pytest.mark.upgraded
def test_the_old_table_can_be_emptied_before_anybody_judged(live: Lab, model: Model) -> None:
    swap(live)
    live.sql("TRUNCATE documents_new")
    assert found(live) == 5, "search answers from the table that has the name now"
    adopt_source(live.config, "documents")
    is_followed(live, model)


@pytest.mark.upgraded
def test_a_rollback_does_not_wait_for_the_judgement(live: Lab) -> None:
    swap(live)
    live.sql("UPDATE documents SET body = 'body 3' WHERE id = 3")
    assert live.downgrade() == ["r2"]
    assert found(live) == 5


@pytest.mark.upgraded
def test_a_table_that_was_dropped_and_made_again(live: Lab, model: Model) -> None:
    fill(live, "documents_new")
    live.sql("DROP TABLE documents CASCADE")
    live.sql("ALTER TABLE documents_new RENAME TO documents")
    with pytest.raises(SourceReplaced, match="is gone; public"):
        live.sync()
    assert found(live) == 5
    assert adopt_source(live.config, "documents").before is None
    is_followed(live, model)


@pytest.mark.upgraded
def test_a_table_with_other_columns(live: Lab, model: Model) -> None:
    """The view cannot be replaced in place, and comes back with its grants."""
    live.sql("GRANT SELECT ON documents_live TO pg_monitor")
    live.sql("GRANT SELECT (title) ON documents_live TO pg_signal_backend")
    swap(live, "extra int DEFAULT 1, body varchar(99), title text, id bigint PRIMARY KEY")
    adopt_source(live.config, "documents")
    assert live.sql("SELECT has_table_privilege('pg_monitor', 'documents_live', 'SELECT')") == [(True,)]
    column = "SELECT has_column_privilege('pg_signal_backend', 'documents_live', 'title', 'SELECT')"
    assert live.sql(column) == [(True,)], "of one column, too"
    is_followed(live, model)


def test_a_table_with_a_wider_key(bare_lab: Lab, model: Model) -> None:
    bare_lab.sql("CREATE TABLE documents (id integer PRIMARY KEY, title text, body text)")
    bare_lab.sql("INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n")
    bare_lab.write().upgrade()
    swap(bare_lab)
    adopt_source(bare_lab.config, "documents")
    is_followed(bare_lab, model)
    bare_lab.sql("INSERT INTO documents VALUES (5000000000, 'a', 'b')")
    assert bare_lab.sync()["documents", LARGE].fresh == COUNT


@pytest.mark.parametrize(
    ("columns", "error", "says"),
    [
        ("id text PRIMARY KEY, title text, body text", DatabaseError, "The key of documents was bigint"),
        ("id bigint PRIMARY KEY, title text", ConfigError, 'column "body" does not exist'),
        ("id bigint, title text, body text", ConfigError, "share the key"),
    ],
)
@pytest.mark.upgraded
def test_a_table_that_does_not_fit(live: Lab, columns: str, error: type[Exception], says: str) -> None:
    live.sql(f"CREATE TABLE documents_new ({columns})")
    live.sql("INSERT INTO documents_new (id, title) VALUES ('1', 'a')")
    if "PRIMARY" not in columns:
        live.sql("INSERT INTO documents_new (id, title) VALUES ('1', 'a')")
    live.sql("ALTER TABLE documents RENAME TO documents_old")
    live.sql("ALTER TABLE documents_new RENAME TO documents")
    with pytest.raises(error, match=says):
        adopt_source(live.config, "documents")
    assert vectors(live) == 2 * COUNT
    live.sql("UPDATE documents_old SET body = 'edited' WHERE id = 1")
    live.write(source="public.documents_old").sync()
    assert live.cover(LARGE).fresh == COUNT, "the table before is still its source"


@pytest.mark.parametrize("which", ["before", "after", "both"])
@pytest.mark.upgraded
def test_row_level_security_is_that_of_the_new_table(live: Lab, model: Model, which: str) -> None:
    role = "reader_of_adopted_tables"
    live.sql(f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    if which != "after":
        live.sql("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
        live.sql("CREATE POLICY nothing ON documents USING (false)")
        live.sync()
    swap(live)
    live.sql(f"GRANT SELECT ON documents TO {role}")
    if which != "before":
        live.sql("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
        live.sql("CREATE POLICY low ON documents USING (id <= 5)")
    adopt_source(live.config, "documents")
    live.sync()
    expected = COUNT if which == "before" else 5
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute(f"SET ROLE {role}")
        assert connection.execute("SELECT count(*) FROM documents_live").fetchone() == (expected,)


def test_a_view_that_is_made_again_is_followed(bare_lab: Lab, model: Model) -> None:
    """A view has no rows of its own: to drop it and create another one is how it is altered."""
    bare_lab.sql("CREATE TABLE base (id bigint PRIMARY KEY, title text, body text)")
    bare_lab.sql("INSERT INTO base SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n")
    bare_lab.sql("CREATE VIEW documents AS SELECT * FROM base")
    bare_lab.write().upgrade()
    bare_lab.sql("DROP VIEW documents CASCADE")
    bare_lab.sql("CREATE VIEW documents AS SELECT id, title, body FROM base")
    model.embedded.clear()
    bare_lab.sync()
    assert not model.embedded
    assert shown(bare_lab) == (COUNT, COUNT)


@pytest.mark.upgraded
def test_a_view_under_the_old_name_of_a_renamed_table(live: Lab) -> None:
    """Who renames a table and leaves a view in its place is asked, too."""
    live.sql("ALTER TABLE documents RENAME TO posts")
    live.sql("CREATE VIEW documents AS SELECT * FROM posts")
    with pytest.raises(SourceReplaced, match="that is called public"):
        live.sync()
    live.write(source="public.posts").sync()
    assert live.status().problem is None


@pytest.mark.upgraded
def test_nothing_to_adopt(live: Lab) -> None:
    assert not adopt_source(live.config, "documents").changed
    live.sql("ALTER TABLE documents RENAME TO posts")
    assert not adopt_source(live.config, "documents").changed


def test_a_collection_without_a_tag(lab: Lab) -> None:
    with pytest.raises(UsageError, match="has no tag yet"):
        adopt_source(lab.config, "documents")
