"""Dump, restore and pg_upgrade with PostgreSQL's own tools, halfway through a migration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.cluster import dump, own_cluster, restore, restore_over, upgrade_cluster
from support.embedding import Model
from support.halfway import READER, Halfway
from support.lab import Lab, create_documents
from support.postgres import Postgres, configured, look_into_vecmigs_schema

Connection = psycopg.Connection[Any]

_FORMATS = {"custom": ("dump", "--format=custom"), "plain": ("sql", "--format=plain")}


@pytest.fixture
def halfway(lab: Lab, model: Model, connection: Connection) -> Iterator[Halfway]:
    connection.execute(f"CREATE ROLE {READER} LOGIN")
    yield Halfway(lab, model).go()
    connection.execute(f"DROP OWNED BY {READER}; DROP ROLE {READER}")


@pytest.fixture
def other_url(postgres: Postgres, halfway: Halfway) -> Iterator[str]:
    """URL of an empty database to restore into; it goes before the role does."""
    name = postgres.create_database(template="template0")
    yield postgres.url(name)
    postgres.drop_database(name)


def _name(url: str) -> str:
    return url.split("?", maxsplit=1)[0].rpartition("/")[2]


@pytest.mark.parametrize("kind", list(_FORMATS))
def test_a_restored_dump_goes_on_where_it_stood(
    halfway: Halfway, other_url: str, kind: str, postgres: Postgres, tmp_path: Path
) -> None:
    suffix, option = _FORMATS[kind]
    file = tmp_path / f"all.{suffix}"
    dump(postgres, _name(halfway.lab.url), file, option)
    stood = (halfway.objects, halfway.grants, halfway.rows, halfway.findings)
    restore(postgres, file, _name(other_url))
    restored = halfway.moved(other_url)
    assert (restored.objects, restored.grants, restored.rows, restored.findings) == stood
    assert {kind for kind, _ in restored.findings} == {"missing vectors", "stale vectors"}
    restored.finish()


def test_a_dump_is_restored_over_what_is_there(halfway: Halfway, postgres: Postgres, tmp_path: Path) -> None:
    """As one goes back to last night's dump. Of the partitions' keys pg_restore complains, whoever made them."""
    name = _name(halfway.lab.url)
    dump(postgres, name, tmp_path / "all.dump", "--format=custom")
    stood = (halfway.objects, halfway.grants, halfway.rows, halfway.findings)
    halfway.lab.sync()
    said = restore_over(postgres, tmp_path / "all.dump", name)
    complaints = [line for line in said.splitlines() if "ERROR:" in line]
    assert complaints
    assert all("cannot drop inherited constraint" in line for line in complaints)
    assert (halfway.objects, halfway.grants, halfway.rows, halfway.findings) == stood
    halfway.model.embedded.clear()
    halfway.finish()


def test_a_restore_without_comments_loses_nothing(
    halfway: Halfway, other_url: str, postgres: Postgres, tmp_path: Path
) -> None:
    file = tmp_path / "all.dump"
    dump(postgres, _name(halfway.lab.url), file, "--format=custom", "--no-comments")
    restore(postgres, file, _name(other_url))
    restored = halfway.moved(other_url)
    comments = "SELECT description FROM pg_description WHERE description LIKE 'vecmig%'"
    assert halfway.lab.sql(comments) != []
    assert restored.lab.sql(comments) == []
    assert restored.findings == halfway.findings
    restored.finish()


def test_a_restore_without_privileges_is_mended_once_the_sources_are_back(
    halfway: Halfway, other_url: str, postgres: Postgres, tmp_path: Path
) -> None:
    file = tmp_path / "all.dump"
    dump(postgres, _name(halfway.lab.url), file, "--format=custom", "--no-privileges", "--no-owner")
    restore(postgres, file, _name(other_url))
    restored = halfway.moved(other_url)
    assert restored.grants != halfway.grants
    restored.lab.sql(f"GRANT SELECT ON documents TO {READER}")
    assert "no access" in {kind for kind, _ in restored.findings}
    restored.lab.sync()
    assert set(halfway.grants) <= set(restored.grants)
    opened = set(restored.grants) - set(halfway.grants)
    assert {grant[0] for grant in opened} <= {"function"}
    with_owners_rights = "SELECT oid::regprocedure::text FROM pg_proc WHERE prosecdef"
    assert not {grant[1] for grant in opened} & {name for (name,) in restored.lab.sql(with_owners_rights)}
    restored.require_reader(8)
    restored.finish(same_oids=True)


def test_default_privileges_where_a_dump_is_restored_open_nothing(
    halfway: Halfway, other_url: str, postgres: Postgres, tmp_path: Path
) -> None:
    """A dump does not say that nobody else has rights on a table, so that its new place decides."""
    file = tmp_path / "all.dump"
    dump(postgres, _name(halfway.lab.url), file, "--format=custom")
    with psycopg.connect(other_url, autocommit=True) as connection:
        connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {READER}")
    restore(postgres, file, _name(other_url))
    restored = halfway.moved(other_url)
    assert ("relation", "route", READER, "UPDATE") in restored.grants
    restored.lab.sync()
    # the source is the team's own, and so is what default privileges gave on it
    assert [grant for grant in restored.grants if grant[1] != "documents"] == [
        grant for grant in halfway.grants if grant[1] != "documents"
    ]


def test_a_dump_of_an_older_server_goes_into_a_newer_one(
    older_postgres: Postgres, postgres: Postgres, model: Model, tmp_path: Path
) -> None:
    older, newer = older_postgres.create_database(), postgres.create_database(template="template0")
    servers = (older_postgres, postgres)
    for server in servers:
        server.execute(f"CREATE ROLE {READER} LOGIN")
    try:
        with psycopg.connect(older_postgres.url(older), autocommit=True) as connection:
            create_documents(connection)
        before = Halfway(Lab(tmp_path, older_postgres.url(older)), model).go()
        dump(older_postgres, older, tmp_path / "all.dump", "--format=custom")
        stood = (before.objects, before.grants, before.rows, before.findings)
        restore(postgres, tmp_path / "all.dump", newer)
        after = before.moved(postgres.url(newer))
        assert (after.objects, after.grants, after.rows, after.findings) == stood
        after.finish()
    finally:
        for server, name in zip(servers, (older, newer), strict=True):
            server.drop_database(name)
            server.execute(f"DROP ROLE {READER}")


def test_a_cluster_that_was_upgraded_goes_on_where_it_stood(
    older_programs: Path, pgserver: Any, model: Model, tmp_path: Path
) -> None:
    """pg_upgrade from the older PostgreSQL and pgvector to the usual ones."""
    newer = Path(pgserver.utils.POSTGRES_VERSIONS[pgserver.utils.TARGET_POSTGRES_VERSION])
    with own_cluster(older_programs, pgserver) as old, own_cluster(newer, pgserver) as new:
        old.create("--no-sync")
        old.start()
        server = configured(Postgres(old))
        server.execute(f"CREATE ROLE {READER} LOGIN")
        name = server.create_database()
        with psycopg.connect(server.url(name), autocommit=True) as connection:
            create_documents(connection)
        before = Halfway(Lab(tmp_path, server.url(name)), model).go()
        stood = (before.objects, before.grants, before.rows, before.findings)
        old.stop()

        upgrade_cluster(old, new)
        new.start()
        look_into_vecmigs_schema(Postgres(new))
        after = before.moved(Postgres(new).url(name))
        assert (after.objects, after.grants, after.rows, after.findings) == stood
        after.finish(same_oids=True)
        after.lab.sql("ALTER EXTENSION vector UPDATE")
        assert after.lab.upgrade() == ["live"]
