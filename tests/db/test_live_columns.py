"""The live view binds no more columns than it must: a team alters, renames and drops its other columns as ever."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import errors as pg
from psycopg import sql

from support.lab import SMALL, Lab
from vecmig.errors import ConfigError, DatabaseError
from vecmig.postgres.named_sql import script


@pytest.fixture
def wide(lab: Lab) -> Lab:
    """A project whose source has columns that vecmig does not need."""
    lab.sql("ALTER TABLE documents ADD COLUMN author text, ADD COLUMN pages int, ADD COLUMN shelf text")
    lab.sql("UPDATE documents SET author = 'a' || id, pages = id, shelf = 's'")
    return lab


def _columns(lab: Lab) -> list[str]:
    rows = lab.sql(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'documents_live'::regclass AND attnum > 0 ORDER BY attnum"
    )
    return [name for (name,) in rows]


def test_the_view_shows_what_vecmig_reads_anyway(wide: Lab) -> None:
    wide.write(options={"where": "pages > 0"})
    wide.upgrade("r1")
    assert _columns(wide) == ["id", "title", "body", "pages", "tag", "chunk", "embedding"]


def test_columns_that_vecmig_does_not_need_are_the_teams(wide: Lab) -> None:
    """While the triggers are at work, a second tag is being built, and the search answers."""
    wide.upgrade("r1")
    wide.upgrade("r2", until="backfill")
    wide.sql("ALTER TABLE documents ALTER COLUMN author TYPE varchar(40)")
    wide.sql("ALTER TABLE documents RENAME COLUMN pages TO sheets")
    wide.sql("ALTER TABLE documents DROP COLUMN shelf")
    wide.sql("UPDATE documents SET body = 'changed' WHERE id = 1")
    assert wide.status().outbox.records == 1
    wide.sync()
    wide.upgrade()
    with wide.reader() as reader:
        (hit,) = reader.search("documents", "title 1", 1)
    assert set(hit.record) == {"id", "title", "body", "author", "sheets"}
    wide.downgrade()
    assert wide.status().problem is None
    assert wide.cover(SMALL).share == 1.0


def test_columns_that_are_shown_are_bound(wide: Lab) -> None:
    wide.write(options={"live_columns": ["author"]})
    wide.upgrade("r1")
    assert _columns(wide) == ["id", "title", "body", "author", "tag", "chunk", "embedding"]
    for change in ("ALTER COLUMN author TYPE varchar(40)", "DROP COLUMN author", "DROP COLUMN title"):
        with pytest.raises((pg.FeatureNotSupported, pg.DependentObjectsStillExist)):
            wide.sql(f"ALTER TABLE documents {change}")
    wide.sql("ALTER TABLE documents DROP COLUMN shelf")


def test_all_shows_every_column(wide: Lab) -> None:
    wide.write(options={"live_columns": "all"})
    wide.upgrade("r1")
    assert _columns(wide) == ["id", "title", "body", "author", "pages", "shelf", "tag", "chunk", "embedding"]
    wide.sql("ALTER TABLE documents ADD COLUMN later text")
    wide.upgrade()
    assert _columns(wide)[-1] == "later"


def test_a_sync_brings_the_view_to_what_is_said(wide: Lab, connection: psycopg.Connection[Any]) -> None:
    """With its grants, on columns too, its comment, and its owner."""
    wide.write(options={"live_columns": "all"})
    wide.upgrade("r1")
    connection.execute("CREATE ROLE live_web; CREATE ROLE live_bi; CREATE ROLE live_gone")
    try:
        connection.execute(
            "GRANT SELECT ON documents_live TO live_web, live_gone; COMMENT ON VIEW documents_live IS 'x'"
        )
        connection.execute("GRANT SELECT (id, title, shelf) ON documents_live TO live_bi WITH GRANT OPTION")
        wide.write(options={"live_columns": ["author"]})
        assert wide.status().problem is not None
        wide.sync()
        assert wide.status().problem is None
        assert _columns(wide) == ["id", "title", "body", "author", "tag", "chunk", "embedding"]
        ((acl, columns, comment),) = wide.sql(
            "SELECT relacl::text, (SELECT attacl::text FROM pg_attribute WHERE attrelid = c.oid AND attname = 'title'),"
            " obj_description(oid) FROM pg_class c WHERE oid = 'documents_live'::regclass"
        )
        assert "live_web=r/" in acl
        assert "live_bi=r*/" in columns
        assert comment == "x"
        wide.sql("ALTER TABLE documents DROP COLUMN shelf")
    finally:
        connection.execute("DROP OWNED BY live_web, live_bi, live_gone; DROP ROLE live_web, live_bi, live_gone")


def test_a_view_of_the_teams_on_it_is_named_and_not_dropped(wide: Lab) -> None:
    wide.write(options={"live_columns": "all"})
    wide.upgrade("r1")
    wide.sql("CREATE VIEW report AS SELECT id, author FROM documents_live")
    wide.write(options={"live_columns": []})
    with pytest.raises(DatabaseError, match=r"view public\.report depends on view public\.documents_live") as refused:
        wide.sync()
    assert refused.value.state == "Nothing was changed."
    assert "author" in _columns(wide)
    wide.sql("DROP VIEW report")
    wide.sync()
    assert _columns(wide) == ["id", "title", "body", "tag", "chunk", "embedding"]


def test_a_text_that_reads_other_columns_moves_the_view_along(wide: Lab) -> None:
    wide.upgrade("r1")
    wide.write(text="body || author")
    wide.sync()
    assert _columns(wide) == ["id", "body", "author", "tag", "chunk", "embedding"]
    wide.sql("ALTER TABLE documents DROP COLUMN title")
    wide.sync()


def test_an_existing_project_keeps_what_it_has_until_it_says_otherwise(
    wide: Lab, connection: psycopg.Connection[Any]
) -> None:
    """The ledger of an earlier vecmig knows nothing of columns, and its view shows all."""
    wide.write(options={"live_columns": "all"})
    wide.upgrade("r1")
    connection.execute("DROP FUNCTION vecmig.view_detach, vecmig.view_attach, vecmig.belongings")
    connection.execute("DROP PROCEDURE vecmig.give_back, vecmig.drop_view")
    connection.execute("DROP TABLE vecmig.detached")
    connection.execute("ALTER TABLE vecmig.collection DROP COLUMN live_columns, DROP COLUMN kept_columns")
    connection.execute(script("ledger/008_views", schema=sql.Identifier("vecmig")))
    wide.write(options={})
    everything = ["id", "title", "body", "author", "pages", "shelf"]
    wide.upgrade()
    assert _columns(wide)[:6] == everything
    wide.sql("DROP VIEW documents_live")
    wide.sync()
    assert _columns(wide)[:6] == everything
    wide.write(options={"live_columns": []})
    wide.sync()
    assert _columns(wide) == ["id", "title", "body", "tag", "chunk", "embedding"]


def test_a_text_of_the_whole_row_shows_all(wide: Lab) -> None:
    wide.write(text="to_jsonb(documents)::text")
    wide.upgrade("r1")
    assert _columns(wide)[:6] == ["id", "title", "body", "author", "pages", "shelf"]


def test_a_column_that_is_not_there_is_named(wide: Lab) -> None:
    wide.write(options={"live_columns": ["auhtor"]})
    with pytest.raises(ConfigError, match="no column 'auhtor', named in live_columns"):
        wide.upgrade("r1")


@pytest.mark.parametrize("value", ["some", [1], {"a": 1}, ["tag"]])
def test_what_live_columns_may_be(wide: Lab, value: object) -> None:
    wide.write(options={"live_columns": value})
    with pytest.raises(ConfigError, match="live_columns"):
        wide.upgrade("r1")
