"""Databases that are not there, too old, not ours, full or unreachable; and secrets, which never show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.cli import Vecmig, describe, documents_collection, local, make_documents, script, tag, write_hashing
from support.postgres import Connect, Postgres, running_replica
from support.project import INI, Project

A, B = tag("hashing", 16), tag("hashing", 32)
BIG = tag("hashing", 1024)
RECIPES = {A: local(16), B: local(32), BIG: local(1024)}
SCHEMAS = "SELECT count(*) FROM pg_namespace WHERE nspname = 'vecmig'"
RESUME = "Nothing that was committed is lost. When the database is back, run the same command again."
CHECK_URL = "Check database_url (vecmig.ini or VECMIG_DATABASE_URL) and that the server accepts connections."


@pytest.fixture
def ready(project: Project) -> Project:
    """A project in which ``vecmig upgrade`` would succeed."""
    make_documents(project, 20)
    write_hashing(project, 16, 32)
    describe(project, {"documents": documents_collection(A)}, RECIPES)
    script(project, "aaaa", A)
    return project


def test_no_pgvector(ready: Project, vecmig: Vecmig) -> None:
    ready.sql("DROP EXTENSION vector")
    said = (
        "The extension vector (pgvector) is not installed in this database.\n"
        "Nothing was changed.\n"
        "As a superuser run in this database: CREATE EXTENSION vector;\n"
    )
    assert vecmig("upgrade", code=1).stderr == said
    assert ready.sql(SCHEMAS) == [(0,)]
    assert vecmig("current").stdout == ""
    ready.sql("CREATE EXTENSION vector")
    vecmig("upgrade")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "WIN1252"])
def test_another_encoding(ready: Project, vecmig: Vecmig, postgres: Postgres, connect: Connect, encoding: str) -> None:
    name = f"in_{encoding.lower()}"
    postgres.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        ready.ini.write_text(INI.format(database_url=postgres.url(name)))
        said = (
            f"The database {name} is in the encoding {encoding}; vecmig needs UTF8, because models and their providers "
            "read and write every script.\n"
            "Nothing was changed.\n"
            "Restore a dump of it into a database made with: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0\n"
        )
        for command in ("upgrade", "status", "check"):
            assert vecmig(command, code=1).stderr == said
        assert connect(postgres.url(name)).execute(SCHEMAS).fetchall() == [(0,)]
    finally:
        postgres.drop_database(name)


def test_a_database_that_is_read_only_by_a_setting(ready: Project, vecmig: Vecmig) -> None:
    """The setting is meant for applications; it says nothing of the server."""
    ready.sql(f"ALTER DATABASE {ready.sql('SELECT current_database()')[0][0]} SET default_transaction_read_only = on")
    vecmig("upgrade")
    assert vecmig("status").stderr == ""


def test_a_standby(ready: Project, vecmig: Vecmig, own_postgres: Postgres, connect: Connect) -> None:
    name = own_postgres.create_database()
    make = connect(own_postgres.url(name))
    make.execute("CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)")
    make.execute("INSERT INTO documents VALUES (1, 'one', 'two')")
    with running_replica(own_postgres, "standby") as url:
        standby = url.replace("/postgres?", f"/{name}?")
        ready.ini.write_text(INI.format(database_url=standby) + "reconnect_wait = 0\n")
        said = vecmig("upgrade", code=6).stderr
        assert said.startswith(f"The server at {standby} only lets itself be read: it is a standby (cannot execute ")
        assert RESUME in said
        assert said.endswith(
            "Point database_url at the primary: name all servers and add ?target_session_attrs=read-write\n"
        )


@pytest.mark.parametrize("version", ["0.5.1", "0.6"])
def test_an_old_pgvector(ready: Project, vecmig: Vecmig, version: str) -> None:
    ready.sql("UPDATE pg_extension SET extversion = %s WHERE extname = 'vector'", version)
    assert vecmig("upgrade", code=1).stderr == (
        f"pgvector {version} is too old; vecmig needs 0.7 or newer.\n"
        "Nothing was changed.\n"
        "Install a newer pgvector on the server, then run: ALTER EXTENSION vector UPDATE;\n"
    )
    assert ready.sql(SCHEMAS) == [(0,)]


def test_pgvector_in_a_schema_of_its_own(ready: Project, vecmig: Vecmig) -> None:
    ready.sql("DROP EXTENSION vector")
    ready.sql("CREATE SCHEMA extensions")
    ready.sql("CREATE EXTENSION vector SCHEMA extensions")
    vecmig("upgrade")
    (hit,) = vecmig("search", "documents", "title 7 body of record 7 about subject0", "-k", "1", "--json").json
    assert hit["key"] == [7]
    assert vecmig("status", "--check").code == 0


@pytest.fixture
def role(postgres: Postgres, ready: Project) -> Iterator[str]:
    """A role that owns nothing; the project's URL names it from now on."""
    name = f"stranger_{ready.database_url.split('/test_')[1].split('?')[0]}"
    postgres.execute(f"CREATE ROLE {name} LOGIN")
    ready.ini.write_text(INI.format(database_url=ready.database_url.replace("postgres@", f"{name}@")))
    yield name
    ready.sql(f"DROP OWNED BY {name} CASCADE")
    postgres.execute(f"DROP ROLE {name}")


GRANT = (
    "Connect as the owner of the source table, or have its owner grant what is missing; if row-level security is the "
    "reason, the role needs BYPASSRLS: a hidden record would count as covered.\n"
)


def test_no_privilege(ready: Project, vecmig: Vecmig, role: str) -> None:
    database = ready.sql("SELECT current_database()")[0][0]
    assert vecmig("upgrade", code=1).stderr == (
        f"The database refuses: permission denied for database {database}.\n{GRANT}"
    )
    assert ready.sql(SCHEMAS) == [(0,)]
    ready.sql(f"GRANT CREATE ON DATABASE {database} TO {role}")
    assert vecmig("upgrade", code=1).stderr == (
        f"aaaa  documents\nThe database refuses: permission denied for table documents.\n{GRANT}"
    )
    ready.sql(f"GRANT SELECT ON documents TO {role}")
    assert vecmig("upgrade", code=1).stderr == (
        f"aaaa  documents\nThe role {role} lacks UPDATE, TRIGGER, CREATE on schema public for public.documents.\n"
        "Nothing was changed.\n"
        "Have its owner grant it, or connect as the owner. "
        "Or set change_tracking: scan, which needs no triggers.\n"
    )
    assert ready.sql("SELECT to_regclass('documents_vectors') IS NULL") == [(True,)]
    assert vecmig("status", "--json").json["pending"] == ["aaaa"]
    ready.sql(f"GRANT CREATE ON SCHEMA public TO {role}")
    ready.sql(f"GRANT UPDATE, TRIGGER ON documents TO {role}")
    vecmig("upgrade")


def test_a_reader_may_search_and_look_but_not_change(ready: Project, vecmig: Vecmig, role: str) -> None:
    ready.vecmig("upgrade", env={"VECMIG_DATABASE_URL": ready.database_url}).expect()
    ready.sql(f"GRANT USAGE ON SCHEMA vecmig TO {role}")
    ready.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA vecmig TO {role}")
    ready.sql(f"GRANT SELECT ON documents, documents_vectors, documents_live TO {role}")
    for name in ready.sql("SELECT relid::text FROM pg_partition_tree('documents_vectors') WHERE level = 1"):
        ready.sql(f"GRANT SELECT ON {name[0]} TO {role}")
    assert vecmig("search", "documents", "title 3 body", "-k", "1", "--json").json[0]["tag"] == A
    assert vecmig("status", "--check").stdout.splitlines()[-1] == "next      nothing to do"
    before = ready.sql("SELECT * FROM vecmig.event")
    assert vecmig("downgrade", "-1", code=1).stderr.splitlines()[-2].startswith("The database refuses: ")
    assert ready.sql("SELECT * FROM vecmig.event") == before
    assert vecmig("status", "--json").json["current"] == ["aaaa"]


def test_the_roles_own_limits_are_for_its_application(ready: Project, vecmig: Vecmig) -> None:
    ready.sql(
        "CREATE FUNCTION public.slow() RETURNS boolean STABLE LANGUAGE plpgsql "
        "AS 'BEGIN PERFORM pg_sleep(0.02); RETURN true; END'"
    )
    describe(ready, {"documents": documents_collection(A, where="public.slow()")}, RECIPES)
    limits = "&options=-c%20statement_timeout%3D300%20-c%20idle_session_timeout%3D300"
    ready.ini.write_text(INI.format(database_url=ready.database_url + limits))
    vecmig("upgrade")


def test_a_lock_that_somebody_holds(ready: Project, vecmig: Vecmig, connect: Connect) -> None:
    ready.ini.write_text(ready.ini.read_text() + "lock_wait = 0.6\n")
    holder = connect(autocommit=False, application_name="report")
    holder.execute("UPDATE documents SET body = body WHERE id = 1")
    pid = holder.info.backend_pid
    result = vecmig("upgrade", code=1)
    said = rf"pid {pid} \(postgres, report, idle in transaction, transaction open for 00:00:\d\d\)"
    waiting, first, *rest = result.stderr.splitlines()[-4:]
    assert re.fullmatch(rf"  waiting: a lock is taken by {said}", waiting)
    assert re.fullmatch(rf"Could not acquire the lock within 0.6 s. Blocked by {said}\.", first)
    assert rest == [
        "Nothing was changed.",
        "Let that transaction end, or end it with: SELECT pg_terminate_backend(pid); then run this again.",
    ]
    holder.rollback()
    vecmig("upgrade")


# Unreachable, and secrets ------------------------------------------------------------------------------------------

SECRET = "s3cr3t"
UNREACHABLE = [
    f"postgresql://me:{SECRET}@127.0.0.1:1/db",
    f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db",
    f"postgres://me:{SECRET}@127.0.0.1:1/db?application_name=x",
    f"postgresql://127.0.0.1:1/db?user=me&password={SECRET}",
    f"postgresql://me:{SECRET}%40x@127.0.0.1:1/db",
]
MALFORMED = [
    f"postgresql://me:{SECRET}@127.0.0.1:port/db",
    f"postgresql://me:{SECRET}@[::1/db",
    f"postgresql://me:{SECRET}%zz@127.0.0.1:1/db",
    f"postgresql://me:a/{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:a#{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:a?{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:a@{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:{SECRET}",
    f"postgresql://127.0.0.1:1/db?password={SECRET}&nonsense=1",
    f"host=127.0.0.1 port=1 password={SECRET}",
    f"postgresql:/me:{SECRET}@127.0.0.1:1/db",
    f"mysql://me:{SECRET}@127.0.0.1/db",
]


@pytest.mark.parametrize("url", UNREACHABLE)
def test_nobody_answers(ready: Project, vecmig: Vecmig, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECMIG_DATABASE_URL", url)
    for command in (["upgrade"], ["status"], ["search", "documents", "x"]):
        result = vecmig(*command, code=6)
        first, *rest = result.stderr.splitlines()
        assert first.startswith("The database at postgres")
        assert " cannot be reached: " in first
        assert rest == [RESUME, CHECK_URL]
        assert SECRET not in result.stdout + result.stderr


@pytest.mark.parametrize("url", [*UNREACHABLE, *MALFORMED])
def test_a_password_never_shows(ready: Project, vecmig: Vecmig, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECMIG_DATABASE_URL", url)
    for command in (["upgrade"], ["--raiseerr", "upgrade"], ["status", "--json"], ["stamp", "head"]):
        capture = vecmig_unchecked(vecmig, *command)
        assert SECRET not in capture
        assert capture.strip()


def vecmig_unchecked(vecmig: Vecmig, *args: str) -> str:
    """Run a command that may print a traceback, and give all that it has printed."""
    result = vecmig(*args, code=None)
    assert result.code in (2, 6), result
    return result.stdout + result.stderr


def test_a_password_that_works_shows_nowhere(ready: Project, vecmig: Vecmig, monkeypatch: pytest.MonkeyPatch) -> None:
    url = ready.database_url.replace("postgres@", f"postgres:{SECRET}@")
    monkeypatch.setenv("VECMIG_DATABASE_URL", url)
    monkeypatch.setenv("MY_KEY", f"sk-{SECRET}")
    printed = []
    script(ready, "bbbb", B, old=A, down="aaaa", upgrade=f"m.expand()\nraise RuntimeError('{url}')")
    for command in (
        ["upgrade", "aaaa"],
        ["upgrade", "head"],
        ["upgrade", "zzzz"],
        ["--raiseerr", "upgrade", "zzzz"],
        ["status"],
        ["status", "--json"],
        ["gate"],
        ["backfill"],
        ["search", "documents", "x"],
        ["current", "-v"],
        ["downgrade", "-1"],
    ):
        result = vecmig(*command, code=None)
        printed.append(result.stdout + result.stderr)
    assert "postgres:***@" in "".join(printed)
    assert SECRET not in "".join(printed).replace(f"raise RuntimeError('{url}')", "")
    for table in ("event", "revision", "collection", "tag", "route", "change", "rejected", "statement"):
        assert SECRET not in repr(ready.sql(f"SELECT * FROM vecmig.{table}"))
    assert SECRET not in repr(ready.sql("SELECT application_name FROM pg_stat_activity"))


# Disk full ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(postgres: Postgres, ready: Project) -> Iterator[Callable[[int], None]]:
    """A tablespace on a file system of its own, where what the project creates goes; the value resizes it (KB)."""
    home = Path(tempfile.mkdtemp(prefix="vecmig-small-"))
    disk = home / "disk"
    disk.mkdir()
    if os.name != "posix" or os.geteuid() != 0 or _mount("-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)):
        shutil.rmtree(home)
        pytest.skip("needs the right to mount a small tmpfs")
    name = f"small_{home.name.removeprefix('vecmig-small-').lower()}"
    try:
        home.chmod(0o755)
        if postgres.system_user:
            shutil.chown(disk, postgres.system_user)
        postgres.execute(f"CREATE TABLESPACE {name} LOCATION '{disk}'")
        database = ready.sql("SELECT current_database()")[0][0]
        postgres.execute(f"ALTER DATABASE {database} SET default_tablespace = {name}")
        yield lambda size: assert_done(_mount("-o", f"remount,size={size}k", str(disk)))
        postgres.drop_database(database)
        postgres.execute(f"DROP TABLESPACE {name}")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)
        shutil.rmtree(home, ignore_errors=True)


def _mount(*args: str) -> int:
    return subprocess.run(["mount", *args], check=False, capture_output=True).returncode


def assert_done(code: int) -> None:
    assert code == 0


def test_the_disk_is_full(ready: Project, vecmig: Vecmig, small_disk: Callable[[int], None]) -> None:
    ready.sql("INSERT INTO documents SELECT i, 'title ' || i, 'body of ' || i FROM generate_series(21, 300) AS i")
    write_hashing(ready, 1024)
    describe(ready, {"documents": documents_collection(BIG)}, RECIPES)
    script(ready, "aaaa", BIG)
    small_disk(1000)
    vecmig("upgrade", "--until", "expand")
    full = vecmig("upgrade", code=1).stderr.splitlines()
    assert full[-3].startswith("The database's disk is full: could not ")
    assert full[-2:] == [
        "What was committed stays; the statement that failed left nothing behind.",
        "Free some space, then run the same command again: it goes on where it stopped.",
    ]
    before = ready.sql("SELECT count(*) FROM documents_vectors")[0][0]
    assert before < 300
    small_disk(3500)
    vecmig("upgrade", "--until", "backfill")
    full = vecmig("upgrade", code=1).stderr.splitlines()
    assert full[-3].startswith("The database's disk is full: could not ")
    assert vecmig("status", "--json").json["collections"][0]["live_tag"] is None
    small_disk(30_000)
    assert vecmig("upgrade").stdout == "aaaa  live  revision aaaa\n"
    assert ready.sql("SELECT count(*) FROM documents_live") == [(300,)]
