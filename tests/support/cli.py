"""What an acceptance test writes into a project: collections, tags, scripts; and vecmig run inside this process."""

from __future__ import annotations

import hashlib
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import yaml

from support.beginning import OWN
from support.project import INI, OLD_TAG, Project, Result
from vecmig.cli.app import main

#: ``vecmig("upgrade", "head", code=0)``: run the program inside this process, in the project's directory.
Vecmig = Callable[..., Result]
#: What brings a project, which has no revisions yet, to where tests begin.
Prepare = Callable[[Project, Vecmig], None]

SCRIPT = '''\
"""{message}

Revision ID: {revision}
Revises: {down}
"""

from vecmig import Gate, Migration

revision = "{revision}"
down_revision = {down!r}
branch_labels = None
depends_on = None

collection = {collection!r}
old_tag = {old!r}
new_tag = {new!r}
gate = {gate}


def upgrade(m: Migration) -> None:
{upgrade}


def backfill(m: Migration) -> None:
{backfill}


def cutover(m: Migration) -> None:
{cutover}


def downgrade(m: Migration) -> None:
{downgrade}
'''
_STEPS = {
    "upgrade": "m.expand()",
    "backfill": "m.backfill()",
    "cutover": "m.build_index()\nm.cutover(gate)",
    "downgrade": "m.rollback()",
}

#: A callable of the python provider: a bag of hashed words, so that a text finds itself; no model, no network.
HASHING = """\
import hashlib
import numpy as np


def embed(texts):
    vectors = np.full((len(texts), {dims}), 0.01)
    for row, text in zip(vectors, texts):
        # no two texts have one vector: an index loses some of many that are the same
        row += np.resize(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8) / 1000, {dims})
        for word in text.lower().split():
            row[int(hashlib.md5(word.encode()).hexdigest(), 16) % {dims}] += 1
    return vectors
"""


def new_project(path: Path, database_url: str) -> Project:
    """Write the files of a project that has no revisions yet; collections.yaml asks for ``OLD_TAG``."""
    (path / "migrations" / "versions").mkdir(parents=True)
    made = Project(path, database_url)
    made.ini.write_text(INI.format(database_url=database_url))
    made.want_tag(OLD_TAG)
    return made


@contextmanager
def in_project(project: Project) -> Iterator[None]:
    """Work in the project's directory, and forget in the end the modules that its recipes have named."""
    known_modules, known_path = set(sys.modules), list(sys.path)
    try:
        with chdir(project.path):
            yield
    finally:
        sys.path[:] = known_path
        for name in set(sys.modules) - known_modules:
            if name.startswith(("hashing", "noise")):
                del sys.modules[name]


def one_live_tag(project: Project, vecmig: Vecmig) -> None:
    """Bring a project to where its only tag, model/dim-16, is live on 40 documents."""
    live = tag("model", 16)
    make_documents(project, 40)
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(live)}, {live: local(16)})
    script(project, "aaaa", live)
    vecmig("upgrade")


def prepared(directory: Path, database_url: str, prepare: Prepare) -> Project:
    """Make a project and bring it to where tests begin."""
    project = new_project(directory, database_url)

    def run(*args: str) -> Result:
        return Result(args, main(list(args)), "", "").expect()

    with in_project(project):
        prepare(project, run)
    return project


def copied(project: Project, directory: Path, database_url: str) -> Project:
    """Copy a project's files; the new one is on a copy of its database."""
    shutil.copytree(project.path, directory, ignore=shutil.ignore_patterns("__pycache__"))
    copy = Project(directory, database_url)
    copy.ini.write_text(copy.ini.read_text().replace(project.database_url, database_url))
    copy.sql(OWN)
    return copy


def describe(project: Project, collections: Mapping[str, Mapping[str, Any]], tags: Mapping[str, Any]) -> None:
    """Write collections.yaml."""
    text = yaml.safe_dump({"collections": dict(collections), "tags": dict(tags)}, sort_keys=False)
    project.collections.write_text(text)


def documents_collection(tag: str | None, **fields: Any) -> dict[str, Any]:
    """Give the usual collection over ``public.documents``, with other fields if wanted; None leaves one out."""
    usual = {"source": "public.documents", "key": ["id"], "text": "title || ' ' || body", "tag": tag}
    return {name: value for name, value in (usual | fields).items() if value is not None}


def local(dims: int) -> dict[str, Any]:
    """Give a recipe of the python provider; it makes vectors of one project's own function, of that many dims."""
    return {"provider": "python", "callable": f"hashing{dims}:embed", "dims": dims}


def tag(name: str, dims: int, *, chunk: str = "none", norm: str = "l2") -> str:
    """Write a tag."""
    return f"{name}@1/dim-{dims}/chunk-{chunk}/norm-{norm}"


def write_hashing(project: Project, *dims: int) -> None:
    """Put the modules beside vecmig.ini that ``local`` names."""
    for number in dims:
        (project.path / f"hashing{number}.py").write_text(HASHING.format(dims=number))


def script(
    project: Project,
    revision: str,
    new: str | None,
    *,
    old: str | None = None,
    down: str | Sequence[str] | None = None,
    collection: str | None = "documents",
    gate: str = "Gate()",
    **steps: str,
) -> Path:
    """Write one revision script; ``upgrade=`` and so on are the bodies that differ from the usual ones."""
    bodies = {name: textwrap.indent(body, "    ") for name, body in (_STEPS | steps).items()}
    path = project.path / "migrations" / "versions" / f"{revision}_test.py"
    path.write_text(
        SCRIPT.format(
            message=f"revision {revision}",
            revision=revision,
            down=down,
            collection=collection,
            old=old,
            new=new,
            gate=gate,
            **bodies,
        )
    )
    return path


def make_documents(project: Project, count: int = 40) -> int:
    """Create ``public.documents(id, title, body)``, each record with words of its own."""
    project.sql("CREATE TABLE public.documents (id bigint PRIMARY KEY, title text, body text)")
    project.sql(
        "INSERT INTO public.documents SELECT i, 'title ' || i, 'body of record ' || i || ' about subject' || i % 7 "
        f"FROM generate_series(1, {count}) AS i"
    )
    return count


def partition(collection: str, tag: str) -> str:
    """Name the relation that holds a tag's vectors, as the documentation says."""
    return f"{collection}_vectors_{hashlib.sha256(tag.encode()).hexdigest()[:8]}"
