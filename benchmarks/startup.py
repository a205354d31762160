"""How soon a command answers: `vecmig --help`, `heads`, `history` and `current` beside Alembic's own, as processes.

    python benchmarks/startup.py [--rounds 15] [--revisions 5] [--json]

Both have as many revisions, all applied in one database. Each round starts every command once, in turn, and takes the
time from its start to its end; the first round, which fills the caches, is not counted. The ratios are of the shortest
times.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import psycopg
from alembic import command as alembic
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory

from common import ROOT, Report, directory, free_recipe, load_source, opened, parser, rounds, tag_of, write_project

#: What the console scripts of both run.
_VECMIG = ("-c", "import sys; from vecmig.cli.app import run; sys.exit(run())")
_ALEMBIC = ("-c", "import sys; from alembic.config import main; sys.exit(main(prog='alembic'))")
#: What both have, and how much longer vecmig may take.
_BESIDE = {"--help": 1.3, "heads": 1.3, "history": 1.3, "current": 1.0}
_IMPORT = "import vecmig"


def write_alembic_project(path: Path, url: str, revisions: int) -> None:
    """Write what ``alembic init`` writes, with so many empty revisions, and apply them."""
    ini = path / "alembic.ini"
    config = AlembicConfig(ini)
    alembic.init(config, str(path / "alembic"))
    # the driver that vecmig has; of a % the file reads what follows
    driver = url.replace("postgresql://", "postgresql+psycopg://").replace("%", "%%")
    ini.write_text(ini.read_text().replace("driver://user:pass@localhost/dbname", driver))
    for number in range(1, revisions + 1):
        ScriptDirectory.from_config(config).generate_revision(f"a{number}", f"revision {number}")
    alembic.upgrade(config, "head")


def starting(path: Path, *args: str) -> Callable[[], float]:
    """Return what starts Python there with these arguments, and gives the milliseconds to its end."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    command = [sys.executable, *args]

    def start() -> float:
        began = time.perf_counter()
        done = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, check=False)
        took = (time.perf_counter() - began) * 1000
        if done.returncode:
            sys.exit(f"{command!r} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return took

    return start


def measure(report: Report, path: Path, rounds_: int) -> None:
    """Start everything in turn, and enter the figures."""
    commands = {"python": starting(path, "-c", "pass"), _IMPORT: starting(path, "-c", _IMPORT)}
    for name in _BESIDE:
        commands[f"vecmig {name}"] = starting(path, *_VECMIG, name)
        commands[f"alembic {name}"] = starting(path, *_ALEMBIC, name)
    rounds(1, *commands.values())
    values = rounds(rounds_, *commands.values())
    shortest: dict[str, float] = {}
    for name, times in zip(commands, values, strict=True):
        report.figure(name, times, "ms")
        # whatever else the machine does makes a start longer, and none shorter
        shortest[name] = min(times)
    report.ratio("import vecmig, more than Python alone, in ms", shortest[_IMPORT] - shortest["python"], at_most=50)
    for name, most in _BESIDE.items():
        ratio = shortest[f"vecmig {name}"] / shortest[f"alembic {name}"]
        report.ratio(f"vecmig {name} / alembic {name}", ratio, at_most=most)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=15, help="how often everything is started")
    made.add_argument("--revisions", type=int, default=5, help="how many revisions each has")
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    with opened(options.database_url) as database, directory() as path:
        report = Report("startup", options, database)
        url = database.url
        with psycopg.connect(url, autocommit=True) as connection:
            load_source(connection, 20)
        recipes = {tag_of(f"free-{number}", 8): free_recipe(8) for number in range(1, options.revisions + 1)}
        write_project(path, url, recipes).upgrade()
        with redirect_stdout(sys.stderr):
            write_alembic_project(path, url, options.revisions)
        measure(report, path, options.rounds)
        report.end()


if __name__ == "__main__":
    main()
