"""The operations of a revision, one at a time: in this process, or in one that is killed right after a commit.

``python -m support.operations`` reads a task a line, runs each in a fork of its own, and writes the fork's exit code.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from support.forking import Python
from vecmig.config import load_config
from vecmig.operations.backfill import Backfill
from vecmig.operations.build_index import BuildIndex
from vecmig.operations.context import Context, Declaration
from vecmig.operations.cutover import Cutover
from vecmig.operations.execute import Execute
from vecmig.operations.expand import Expand
from vecmig.operations.operation import Operation
from vecmig.operations.rollback import Rollback
from vecmig.runner.project import Project
from vecmig.runner.steps import declaration

#: In the order in which a revision has them; ``execute`` adds 1 to ``side.n``.
OPERATIONS: Final[Mapping[str, Callable[[Context, Declaration], Operation]]] = {
    "execute": lambda context, revision: Execute(context, revision, "UPDATE side SET n = n + 1", "upgrade", 1),
    "expand": Expand,
    "backfill": Backfill,
    "build_index": BuildIndex,
    "cutover": lambda context, revision: Cutover(context, revision, revision.gate),
    "rollback": Rollback,
}
_ROOT = Path(__file__).resolve().parents[2]


def operation(name: str, config: Path, url: str, revision: str) -> Operation:
    """Return an operation of a project's revision on the database at ``url``."""
    project = Project(replace(load_config(config), database_url=url))
    return OPERATIONS[name](project.context, declaration(project.scripts[revision]))


#: Runs the named operation on the database at a URL until its commit of this number; returns the exit code.
Kill = Callable[[str, str, int], int]


@contextmanager
def killer(config: Path, revision: str) -> Iterator[Kill]:
    """Yield what runs an operation in a process that is killed right after its commit of a number, if there is one."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "tests")])}
    command = ["-m", "support.operations", str(config), revision]
    with Python(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        tasks, codes = process.stdin, process.stdout

        def kill(name: str, url: str, after: int) -> int:
            tasks.write(json.dumps([name, url, after]) + "\n")
            tasks.flush()
            return int(codes.readline())

        yield kill
        tasks.close()


def _serve(config: Path, revision: str) -> None:
    for line in sys.stdin:
        name, url, after = json.loads(line)
        child = os.fork()
        if child == 0:
            _die_after(after)
            operation(name, config, url, revision).run()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _die_after(number: int) -> None:
    """Have this process kill itself right after its commit of this number."""
    commits = itertools.count(1)

    def committed() -> None:
        if next(commits) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    exec_command, execute = psycopg.Connection._exec_command, psycopg.Cursor.execute
    #: Transactions that have changed something.
    changing: set[psycopg.Connection[Any]] = set()

    def counted_command(self: psycopg.Connection[Any], command: Any, *others: Any) -> Generator[Any, Any, Any]:
        result = yield from exec_command(self, command, *others)
        if command == b"COMMIT" and self in changing:
            committed()
        if command in {b"COMMIT", b"ROLLBACK"}:
            changing.discard(self)
        return result

    def counted_statement(self: Any, query: Any, *others: Any, **options: Any) -> Any:
        alone = self.connection.info.transaction_status is TransactionStatus.IDLE
        result = execute(self, query, *others, **options)
        # in a pipeline there is no answer yet
        text = self.statusmessage or (query if isinstance(query, str) else query.as_string(self)).lstrip()
        if not text.startswith(("SELECT", "SET", "WITH nearest")):
            # a statement outside a transaction commits itself
            committed() if alone else changing.add(self.connection)
        return result

    psycopg.Connection._exec_command = counted_command  # type: ignore[assignment,method-assign]
    psycopg.Cursor.execute = counted_statement  # type: ignore[method-assign]


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
