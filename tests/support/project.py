"""A project directory as a user has one, and vecmig run in it as a process of its own."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.forking import Python, new_python
from vecmig.demo import corpus

#: The package under test, wherever this pytest has found it, also for the processes that the tests start.
_PACKAGE_PARENT = str(Path(corpus.__file__).parents[2])

OLD_TAG = "wordllama@0.4/dim-64/chunk-none/norm-l2"
NEW_TAG = "wordllama@0.4/dim-256/chunk-none/norm-l2"
INI = """\
[vecmig]
script_location = migrations
database_url = {database_url}
collections = migrations/collections.yaml
"""
COLLECTIONS = """\
collections:
  documents:
    source: public.documents
    key: [id]
    text: "title || E'\\\\n\\\\n' || body"
    tag: {tag}
tags:
  {old}: {{provider: wordllama, dims: 64}}
  {new}: {{provider: wordllama, dims: 256}}
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of vecmig left behind."""

    args: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """stdout, read as JSON."""
        return json.loads(self.stdout)

    def expect(self, code: int = 0) -> Result:
        """Return this result, or fail with all that the run has printed if its exit code is another."""
        shown = f"vecmig {' '.join(self.args)}: exit code {self.code}, expected {code}\n"
        assert self.code == code, f"{shown}--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"
        assert "Traceback (most recent call last)" not in self.stderr, self.stderr
        return self


@dataclass(frozen=True, slots=True)
class Project:
    """A directory with vecmig.ini and migrations/, connected to a database of its own."""

    path: Path
    database_url: str
    #: Whether each process begins with importing, as a user's does, in place of a fork of one that has imported.
    anew: bool = False

    @property
    def ini(self) -> Path:
        """The configuration file."""
        return self.path / "vecmig.ini"

    @property
    def collections(self) -> Path:
        """The collections file."""
        return self.path / "migrations" / "collections.yaml"

    @property
    def versions(self) -> list[Path]:
        """The revision scripts, by name."""
        return sorted((self.path / "migrations" / "versions").glob("*.py"))

    def want_tag(self, tag: str) -> None:
        """Make ``tag`` the one that collections.yaml asks for."""
        self.collections.write_text(COLLECTIONS.format(tag=tag, old=OLD_TAG, new=NEW_TAG))

    def vecmig(
        self, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 300
    ) -> Result:
        """Run ``vecmig`` to its end, without a terminal, and return what it did; no exit code is expected yet."""
        with self.start(*args, env=env, cwd=cwd) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                stdout, stderr = process.communicate()
                pytest.fail(f"vecmig {' '.join(args)}: still running after {timeout} s\n{stdout}\n{stderr}")
        return Result(args, process.returncode, stdout, stderr)

    def start(
        self, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, own_group: bool = False
    ) -> subprocess.Popen[str]:
        """Start ``vecmig`` and return the running process, for tests that signal or kill it, or its process group."""
        begin = new_python if self.anew else Python
        return begin(
            ["-m", "vecmig", *args],
            cwd=cwd or self.path,
            env=_environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=own_group,
        )

    @contextmanager
    def running(self, *args: str) -> Iterator[subprocess.Popen[str]]:
        """Run ``vecmig`` in the background; it is killed at the end at the latest."""
        with self.start(*args) as process:
            try:
                yield process
            finally:
                process.kill()

    def sql(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own and return its rows."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, params or None)
            return cursor.fetchall() if cursor.description else []

    def ledger(self) -> str:
        """Write out everything in vecmig's own tables."""
        tables = self.sql("SELECT relname FROM pg_class WHERE relnamespace = 'vecmig'::regnamespace AND relkind = 'r'")
        return "".join(repr(self.sql(f'SELECT * FROM vecmig."{name}"')) for (name,) in tables)

    def load_documents(self, count: int = 300) -> int:
        """Create ``public.documents(id, title, body)`` with the first ``count`` records of the demo's corpus."""
        records = list(itertools.islice(corpus.read_corpus(), count))
        assert len(records) == count, "this Python has no sources of its standard library"
        with psycopg.connect(self.database_url) as connection:
            connection.execute("CREATE TABLE public.documents (id bigint PRIMARY KEY, title text, body text)")
            with connection.cursor().copy("COPY public.documents FROM STDIN") as copy:
                for record in records:
                    copy.write_row(record)
        return count


def _environment() -> dict[str, str]:
    """Give the environment of this test (already cleaned of settings and keys) with fixed width, colour and path."""
    path = os.pathsep.join(filter(None, [_PACKAGE_PARENT, os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "COLUMNS": "120", "NO_COLOR": "1", "PYTHONUTF8": "1", "TERM": "dumb"}
