"""A revision script as it was loaded: its place in the graph, its tags, its gate and its functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, Literal

from vecmig.model.gate import Gate, Trust
from vecmig.script.graph import Revision

Step = Literal["upgrade", "backfill", "cutover", "downgrade"]
#: The functions of a script, in the order in which they run; the last one leads back.
STEPS: Final[tuple[Step, ...]] = ("upgrade", "backfill", "cutover", "downgrade")

_CREATE_DATE = re.compile(r"^Create Date:\s*(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One file of a version location, or what it is for one collection."""

    revision: Revision
    path: Path
    #: The full docstring.
    doc: str
    #: None for a revision that moves no collection: a merge, or one with statements of its own only. As a file states
    #: it, it may be a pattern.
    collection: str | None
    #: Canonical; None for the first revision of a collection.
    old_tag: str | None
    #: Canonical; None only if there is no collection.
    new_tag: str | None
    gate: Gate | None
    #: SHA-256, hexadecimal, of what the script does; comments, layout and docstrings do not count.
    checksum: str
    #: The functions that the script has, by their name; all four if it has a collection.
    functions: Mapping[Step, Callable[[Any], object]] = field(default_factory=dict, repr=False)
    #: What the new tag must have earned before the vectors of the old one may be retired.
    trust: Trust = field(default=Trust())
    #: The day on which it is to go live, by its team's plan; it decides nothing.
    launch: date | None = None
    #: The script as its file states it, where that is over a pattern of collections, and this is it for one of them.
    shared: Script | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """The revision id."""
        return self.revision.id

    @property
    def index_only(self) -> bool:
        """Whether it changes the index of a tag alone, and moves reads to no other."""
        return self.new_tag is not None and self.old_tag == self.new_tag

    @property
    def message(self) -> str:
        """The first paragraph of the docstring on one line."""
        return " ".join(self.doc.split("\n\n", 1)[0].split())

    @property
    def create_date(self) -> datetime | None:
        """When the script was made, as its header says; None if it does not say."""
        match = _CREATE_DATE.search(self.doc)
        try:
            return datetime.fromisoformat(match[1].strip()) if match else None
        except ValueError:
            return None

    @property
    def stated(self) -> Script:
        """The script as its file states it."""
        return self.shared or self

    def function(self, step: Step) -> Callable[[Any], object]:
        """Return one of the four functions; one that the script does not have does nothing."""
        return self.functions.get(step, _nothing)


def _nothing(m: object) -> None:  # noqa: ARG001  # stands in for a function of the script
    return None
