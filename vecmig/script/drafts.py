"""A revision that is decided and not yet written: what it is called, which file it becomes, and what stands there."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from vecmig.errors import ScriptError
from vecmig.model.tag import Tag
from vecmig.script.adopt_call import AdoptCall
from vecmig.script.directory import ScriptDirectory
from vecmig.script.graph import Graph, Revision
from vecmig.script.patterns import expanded
from vecmig.script.script import Script
from vecmig.script.template import SUFFIX, docstring, literal, render, template_folder, write_all_new
from vecmig.text import shown


@dataclass(frozen=True, slots=True)
class Move:
    """A collection that is to go from one tag to another; both canonical, the old one None for the first."""

    collection: str
    old_tag: str | None
    new_tag: str
    #: What it takes over; None to embed by the recipe.
    adopt: AdoptCall | None = None

    @property
    def index_only(self) -> bool:
        """Whether it stays at its tag, whose index alone changes."""
        return self.old_tag == self.new_tag

    @property
    def message(self) -> str:
        """What a revision that makes this move is called unless told otherwise."""
        new = Tag.parse(self.new_tag)
        if self.old_tag is None:
            begins = "adopted vectors," if self.adopt else "first tag,"
            return f"{self.collection}: {begins} {new.dims} dimensions"
        old = Tag.parse(self.old_tag)
        if self.index_only:
            return f"{self.collection}: another index of {new.model}"
        if old.model != new.model:
            return f"{self.collection}: {old.model} to {new.model}"
        if old.version != new.version:
            return f"{self.collection}: {new.model} {old.version} to {new.version}"
        if old.dims != new.dims:
            return f"{self.collection}: {old.dims} to {new.dims} dimensions"
        return f"{self.collection}: {self.old_tag.partition('/')[2]} to {self.new_tag.partition('/')[2]}"


Kind = Literal["script", "empty", "merge"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A revision that is decided and not yet written."""

    revision: Revision
    kind: Kind
    message: str
    folder: Path
    move: Move | None = None
    created: datetime = field(default_factory=lambda: datetime.now().replace(microsecond=0))  # noqa: DTZ005  # as in Alembic


def write_drafts(directory: ScriptDirectory, drafts: Sequence[Draft]) -> tuple[Script, ...]:
    """Check that the graph stays sound, write the files, and load them again; return them as the files state them."""
    new = {draft.revision.id: _unwritten(directory, draft) for draft in drafts}
    after = expanded({**directory.files, **new}, directory.collection_names)
    Graph([*directory.map, *(script.revision for script in after if script.stated.id in new)])
    write_all_new([(_path(directory, draft), _text(directory, draft)) for draft in drafts])
    directory.reload()
    return tuple(directory.files[id_] for id_ in new)


def _unwritten(directory: ScriptDirectory, draft: Draft) -> Script:
    collection, old_tag, new_tag = (
        (draft.move.collection, draft.move.old_tag, draft.move.new_tag) if draft.move else (None, None, None)
    )
    return Script(draft.revision, _path(directory, draft), draft.message, collection, old_tag, new_tag, None, "")


def _path(directory: ScriptDirectory, draft: Draft) -> Path:
    # in lower-case ASCII words joined by underscores, cut between words
    plain = unicodedata.normalize("NFKD", draft.message).encode("ascii", "ignore").decode().lower()
    slug, longest = "_".join(re.findall(r"[a-z0-9]+", plain)), directory.config.truncate_slug_length
    if len(slug) > longest:
        slug = slug[:longest].rpartition("_")[0] or slug[:longest]
    at = draft.created
    parts = {name: getattr(at, name) for name in ("year", "month", "day", "hour", "minute", "second")}
    name = directory.config.file_template.format(
        rev=draft.revision.id, slug=slug, epoch=int(at.timestamp()), **{k: f"{v:02}" for k, v in parts.items()}
    )
    return draft.folder / f"{name.rstrip('_')}.py"


def _backfill(move: Move | None) -> str:
    if move is not None and move.index_only:
        return "pass  # the vectors stay as they are"
    return str(move.adopt) if move is not None and move.adopt else "m.backfill()"


def _text(directory: ScriptDirectory, draft: Draft) -> str:
    revision, move = draft.revision, draft.move
    values = {
        "message": docstring(draft.message),
        "rev": revision.id,
        "revises": ", ".join(revision.down_revisions),
        "create_date": str(draft.created),
        "revision": literal(revision.id),
        "down_revision": literal(revision.down_revisions, name="down_revision"),
        "branch_labels": literal(revision.branch_labels, name="branch_labels"),
        "depends_on": literal(revision.depends_on, name="depends_on"),
        "collection": literal(move.collection if move else None),
        "old_tag": literal(move.old_tag if move else None),
        "new_tag": literal(move.new_tag if move else None),
        "backfill": _backfill(move),
    }
    name = f"{draft.kind}.py{SUFFIX}"
    # a project may have a template of its own beside its scripts
    template = directory.config.script_location / name
    if not template.is_file():
        template = template_folder(directory.config.template) / name
    text = render(template, values)
    if move and move.adopt and values["backfill"] not in text:
        # it would embed all that it should take over
        raise ScriptError(
            f"The template {shown(template)} says itself what backfill(m) does, so --adopt cannot.",
            hint="Write ${backfill} there in place of m.backfill()",
        )
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
