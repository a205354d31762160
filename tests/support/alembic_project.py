"""A project of a team that migrates its tables with Alembic, beside vecmig, and Alembic's own command line in it."""

from __future__ import annotations

import os
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

from hatchling import build

from support.forking import run_python
from support.source import ROOT

#: What Alembic imports, but for itself: it looks for plugins when it is imported.
_IMPORTS = ("sqlalchemy.dialects.postgresql.psycopg", "mako.lookup")
_INI = """\
[alembic]
script_location = %(here)s/scripts
prepend_sys_path = %(here)s
path_separator = os
"""
_ENV = """\
import os
from alembic import context
from models import metadata
from sqlalchemy import create_engine
import vecmig.alembic

with create_engine(os.environ["DATABASE"]).connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, {options})
    with context.begin_transaction():
        context.run_migrations()
"""
_MAKO = '''\
"""${message}"""
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
'''
_MODELS = """\
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

metadata = MetaData()
Table("documents", metadata, Column("id", BigInteger, primary_key=True), Column("title", Text), Column("body", Text))
{more}
"""


def unpack_entry_points(folder: Path) -> Path:
    """Lay vecmig's entry points, as pyproject.toml has them now, into a folder; this Python may know older ones."""
    here = Path.cwd()
    os.chdir(ROOT)
    try:
        name = build.build_wheel(str(folder))
    finally:
        os.chdir(here)
    with zipfile.ZipFile(folder / name) as wheel:
        wheel.extractall(folder, [member for member in wheel.namelist() if ".dist-info/" in member])
    return folder


@dataclass(frozen=True, slots=True)
class AlembicProject:
    """One directory with alembic.ini, env.py, models.py and revisions."""

    path: Path
    url: str
    #: Where vecmig's entry points lie.
    installed: Path

    def write(self, options: str = "", models: str = "") -> AlembicProject:
        """Write its files: what ``env.py`` configures beside the usual, and the models beside ``documents``."""
        (self.path / "scripts" / "versions").mkdir(parents=True, exist_ok=True)
        (self.path / "alembic.ini").write_text(_INI)
        (self.path / "scripts" / "env.py").write_text(_ENV.format(options=options))
        (self.path / "scripts" / "script.py.mako").write_text(_MAKO)
        (self.path / "models.py").write_text(_MODELS.format(more=models))
        return self

    def script(self, body: str) -> None:
        """Write the one revision, whose upgrade does this."""
        text = f'from alembic import op\nimport vecmig.alembic\nrevision = "1"\ndown_revision = None\n\n\n{body}'
        (self.path / "scripts" / "versions" / "1_test.py").write_text(text)

    @property
    def scripts(self) -> list[str]:
        """The texts of its revisions."""
        return [path.read_text() for path in sorted((self.path / "scripts" / "versions").glob("*.py"))]

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run ``alembic`` to its end; no exit code is expected."""
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(self.installed), str(ROOT)]),
            "DATABASE": self.url.replace("postgresql://", "postgresql+psycopg://"),
        }
        command = ["-m", "alembic", "-c", "alembic.ini", *args]
        return run_python(command, imports=_IMPORTS, cwd=self.path, env=environment)
