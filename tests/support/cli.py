"""What an acceptance test writes into a project: collections, tags, scripts; and vecmig run inside this process."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from support.project import INI, OLD_TAG, Project, Result

#: ``vecmig("upgrade", "head", code=0)``: run the program inside this process, in the project's directory.
Vecmig = Callable[..., Result]

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
