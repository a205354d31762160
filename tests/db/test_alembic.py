"""A team that migrates its tables with Alembic: autogenerate proposes nothing about what is vecmig's."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.runtime.plugins import Plugin
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, create_engine

import vecmig.alembic
from support.alembic_project import AlembicProject, unpack_entry_points
from support.lab import Lab

_WITHOUT_PLUGIN = 'autogenerate_plugins=["alembic.autogenerate.*", "~alembic.autogenerate.vecmig"]'


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where vecmig's entry points lie."""
    return unpack_entry_points(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def team(lab: Lab, tmp_path: Path, installed: Path) -> AlembicProject:
    """A team's project beside it."""
    (tmp_path / "team").mkdir()
    return AlembicProject(tmp_path / "team", _of_a_team(lab.url), installed).write()


@pytest.fixture(autouse=True)
def _plugin() -> None:
    """Have the plugin in this process, too, whatever this Python was installed with."""
    with contextlib.suppress(ValueError):
        Plugin.setup_plugin_from_module(vecmig.alembic, "alembic.autogenerate.vecmig")


def _of_a_team(url: str) -> str:
    """Look only into public by default, as everybody but these tests does."""
    return f"{url}&options=-csearch_path%3Dpublic" if url.startswith("postgresql") else url


def _proposed(url: str, *models: str, schemas: bool = True) -> set[str]:
    """Give the names of the operations and tables that autogenerate proposes, inside this process."""
    metadata = MetaData()
    Table(
        "documents", metadata, Column("id", BigInteger, primary_key=True), Column("title", Text), Column("body", Text)
    )
    for name in models:
        Table(name, metadata, Column("id", Integer, primary_key=True))
    engine = create_engine(_of_a_team(url).replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"include_schemas": schemas})
            return {f"{verb} {thing.name}" for verb, thing, *_ in compare_metadata(context, metadata)}
    finally:
        engine.dispose()


def _checked(team: AlembicProject) -> set[str]:
    """Give the names of the operations and tables that ``alembic check`` prints."""
    done = team.run("check")
    output = done.stdout + done.stderr
    if done.returncode == 0:
        assert "No new upgrade operations detected" in output
        return set()
    assert "New upgrade operations detected" in output, output
    found = output.split("New upgrade operations detected")[1]
    return {f"{verb} {table}" for verb, table in re.findall(r"\('(\w+)', Table\('(\w+)'", found)}


@pytest.mark.parametrize("view", ["view there", "view gone"])
@pytest.mark.parametrize("schemas", [False, True], ids=["one schema", "all schemas"])
@pytest.mark.upgraded("r2", until="backfill")
def test_nothing_is_proposed(lab: Lab, schemas: bool, view: str) -> None:
    """Not about the vectors tables, their partitions and indexes, the ledger, or the live view."""
    if view == "view gone":
        lab.sql("DROP VIEW documents_live")
    assert _proposed(lab.url, schemas=schemas) == set()
    # as a model, the live view is no table to create
    assert _proposed(lab.url, "documents_live", schemas=schemas) == set()


@pytest.mark.upgraded("r2", until="backfill")
def test_the_plugin_is_found_and_what_autogenerate_writes_drops_nothing(team: AlembicProject, lab: Lab) -> None:
    """Alembic's own command line."""
    lab.sql("DROP VIEW documents_live")
    relations = "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p', 'i', 'I') ORDER BY 1"
    before = lab.sql(relations)
    team.write("include_schemas=True")
    assert _checked(team) == set()
    for args in (["revision", "--autogenerate", "-m", "nothing"], ["upgrade", "head"]):
        done = team.run(*args)
        assert done.returncode == 0, done.stderr
    (script,) = team.scripts
    assert "drop" not in script
    assert set(before) <= set(lab.sql(relations))


@pytest.mark.upgraded("r2", until="backfill")
def test_without_the_plugin_alembic_would_drop_the_vectors(team: AlembicProject) -> None:
    """So the tests here test something."""
    team.write(f"include_schemas=True, {_WITHOUT_PLUGIN}")
    assert {"remove_table documents_vectors", "remove_table route"} <= _checked(team)


@pytest.mark.parametrize("hook", ["include_object", "include_name"])
@pytest.mark.upgraded("r2", until="backfill")
def test_the_hooks_of_env_py_do_without_the_plugin(team: AlembicProject, lab: Lab, hook: str) -> None:
    lab.sql("CREATE TABLE other_vectors (id int PRIMARY KEY)")
    team.write(f"include_schemas=True, {hook}=vecmig.alembic.{hook}, {_WITHOUT_PLUGIN}")
    assert _checked(team) == {"remove_table other_vectors"}


@pytest.mark.upgraded("r2", until="backfill")
def test_a_table_of_the_teams_own_is_proposed_whatever_it_is_called(lab: Lab) -> None:
    lab.sql("CREATE TABLE other_vectors (id int PRIMARY KEY)")
    lab.sql("CREATE TABLE documents_vectors_old (tag text, id int) PARTITION BY LIST (tag)")
    lab.sql("CREATE TABLE copied AS SELECT tag, id, chunk, source_hash, chunk_text, embedded_at FROM documents_vectors")
    lab.sql("ALTER TABLE copied ADD COLUMN embedding text")
    lab.sql("COMMENT ON TABLE copied IS 'vecmig (ledger in schema \"vecmig\")'")
    lab.sql("CREATE TABLE vecmig.other (id int PRIMARY KEY)")
    removed = {f"remove_table {name}" for name in ("other_vectors", "documents_vectors_old", "copied", "other")}
    assert _proposed(lab.url, "wanted_vectors") == removed | {"add_table wanted_vectors"}


@pytest.mark.upgraded("r2", until="backfill")
def test_a_dump_without_comments_changes_nothing(lab: Lab) -> None:
    for (name,) in lab.sql(
        "SELECT objoid::regclass::text FROM pg_description WHERE classoid = 'pg_class'::regclass AND objsubid = 0"
        " AND description LIKE 'vecmig%'"
    ):
        lab.sql(f"COMMENT ON TABLE {name} IS NULL")
    assert _proposed(lab.url) == set()


@pytest.mark.upgraded("r2", until="backfill")
def test_a_detached_partition_is_still_vecmigs(lab: Lab) -> None:
    """A retire that is cut short leaves one behind."""
    source = lab.inspected()
    vectors, name = source.vectors.as_string(None), source.partition(lab.chain[1]).as_string(None)
    lab.sql(f"ALTER TABLE {vectors} DETACH PARTITION {name}")
    assert _proposed(lab.url) == set()


@pytest.mark.upgraded("r2", until="backfill")
def test_a_role_without_rights_on_the_ledger_may_autogenerate(lab: Lab, connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE ROLE alembic_only LOGIN")
    try:
        assert _proposed(lab.url.replace("//postgres@", "//alembic_only@")) == set()
    finally:
        connection.execute("DROP ROLE alembic_only")


def test_a_database_that_vecmig_never_saw_is_compared_as_ever(bare_lab: Lab) -> None:
    bare_lab.sql("CREATE TABLE other (id int PRIMARY KEY)")
    assert _proposed(bare_lab.url) == {"remove_table other", "add_table documents"}


def test_another_database_than_postgresql_is_compared_as_ever() -> None:
    assert _proposed("sqlite://", schemas=False) == {"add_table documents"}


# Operations ----------------------------------------------------------------------------------------------------------

_ALTER = """\
def upgrade():
    with vecmig.alembic.detached(op, "documents"):
        op.execute("ALTER TABLE documents ALTER COLUMN body TYPE varchar(400)")


def downgrade():
    op.vecmig_view_detach("documents")
    op.execute("ALTER TABLE documents ALTER COLUMN body TYPE text")
    op.vecmig_view_attach("documents")
"""


@pytest.mark.upgraded("r2", until="backfill")
def test_a_migration_alters_a_column_that_the_text_reads(team: AlembicProject, lab: Lab) -> None:
    lab.sql("COMMENT ON VIEW documents_live IS 'kept'")
    team.script(_ALTER)
    for args in (["upgrade", "head"], ["downgrade", "base"]):
        done = team.run(*args)
        assert done.returncode == 0, done.stderr
        assert lab.sql("SELECT obj_description('documents_live'::regclass)") == [("kept",)]
        assert lab.status().detached is None
    lab.sql("UPDATE documents SET body = 'changed' WHERE id = 1")
    lab.sync()
    lab.upgrade()


@pytest.mark.upgraded("r2", until="backfill")
def test_a_migration_that_fails_leaves_the_view(team: AlembicProject, lab: Lab) -> None:
    team.script(_ALTER.replace("COLUMN body TYPE varchar(400)", "COLUMN nothing TYPE text"))
    assert team.run("upgrade", "head").returncode != 0
    assert lab.sql("SELECT count(*) FROM documents_live") == [(20,)]
    assert lab.status().detached is None


@pytest.mark.upgraded("r2", until="backfill")
def test_offline_the_operations_are_written_out(team: AlembicProject) -> None:
    """An env.py without offline mode writes what it would run all the same."""
    team.script(_ALTER.replace('"documents"', '"it\'s:1"'))
    team.write("as_sql=True, dialect_name='postgresql'")
    done = team.run("upgrade", "head")
    assert "SELECT \"vecmig\".\"view_detach\"('it''s:1');" in done.stdout, done.stdout + done.stderr
