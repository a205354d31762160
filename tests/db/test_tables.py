"""Our own tables as SQLAlchemy knows them are those that the numbered SQL files make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, NullPool, create_engine, inspect

from vecmig.ledger.install import ensure
from vecmig.ledger.tables import METADATA
from vecmig.postgres.sessions import Database

SCHEMA = "vecmig"


@pytest.fixture
def installed(database_url: str) -> Iterator[Connection]:
    """A database with vecmig's tables, as SQLAlchemy sees it."""
    ensure(Database(database_url, SCHEMA))
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def declared() -> MetaData:
    """The tables as they are declared, in vecmig's schema."""
    metadata = MetaData()
    for table in METADATA.sorted_tables:
        table.to_metadata(metadata, schema=SCHEMA)
    return metadata


def test_alembic_finds_no_difference(installed: Connection, declared: MetaData) -> None:
    def ours(name: str | None, type_: str, _parents: Any) -> bool:
        return type_ != "schema" or name == SCHEMA

    context = MigrationContext.configure(
        installed,
        opts={
            "include_schemas": True,
            "include_name": ours,
            "compare_type": True,
            "compare_server_default": True,
            # the plugin tells autogenerate that these tables are vecmig's
            "autogenerate_plugins": ["alembic.autogenerate.*", "~alembic.autogenerate.vecmig"],
        },
    )
    assert compare_metadata(context, declared) == []


def test_a_difference_would_be_found(installed: Connection, declared: MetaData) -> None:
    installed.exec_driver_sql("ALTER TABLE vecmig.tag ADD COLUMN another text")
    installed.exec_driver_sql("ALTER TABLE vecmig.event ALTER COLUMN host SET NOT NULL")
    with pytest.raises(AssertionError):
        test_alembic_finds_no_difference(installed, declared)


def test_the_checks_are_the_same_too(installed: Connection, declared: MetaData) -> None:
    made = MetaData()
    scratch = "declared"
    installed.exec_driver_sql(f"CREATE SCHEMA {scratch}")
    for table in METADATA.sorted_tables:
        table.to_metadata(made, schema=scratch)
    made.create_all(installed)
    inspector = inspect(installed)
    for table in METADATA.sorted_tables:
        both = [
            sorted(check["sqltext"] for check in inspector.get_check_constraints(table.name, schema=schema))
            for schema in (SCHEMA, scratch)
        ]
        assert both[0] == both[1], table.name
