"""What the ledger's tables have, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from vecmig.errors import NotRecorded
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag

#: What a tag is to its collection.
Role = Literal["live", "standby", "candidate", "kept"]


@dataclass(frozen=True, slots=True)
class TagRow:
    """One tag of one collection, with the recipe it was recorded with."""

    collection: str
    tag: str
    dims: int
    recipe: Recipe
    fingerprint: str
    #: Where its vectors live: the kind of its home.
    home: str
    state: str
    #: {"texts": [...], "vectors": [[...], ...]}, or None before the first embedding.
    canary: Mapping[str, Any] | None
    #: What the tag has adopted, as ``AdoptedTag`` writes it; None where it was embedded.
    adopted: Mapping[str, Any] | None = None
    #: What the last spot check found of what was adopted: at, good, of, and refuted where some were not the recipe's.
    spot: Mapping[str, Any] | None = None
    #: How much of the exact answer its searches find, as a gate measured it; None before that.
    recall: Mapping[str, Any] | None = None

    @property
    def verified(self) -> Mapping[str, Any] | None:
        """What the last spot check found where all was the recipe's; None where that is only asserted."""
        return None if self.spot is None or self.spot.get("refuted") else self.spot

    @property
    def refuted(self) -> Mapping[str, Any] | None:
        """What it found where not all was the recipe's."""
        return self.spot if self.spot is not None and self.spot.get("refuted") else None

    @property
    def asserted(self) -> bool:
        """Whether it has adopted vectors that nobody has compared with its recipe yet."""
        return self.adopted is not None and self.verified is None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> TagRow:
        """Read a row of ``tags``."""
        collection, tag, dims, recipe, *rest = row
        return cls(collection, tag, dims, Recipe.from_mapping(Tag.parse(tag), recipe), *rest)


@dataclass(frozen=True, slots=True)
class Route:
    """Which tags a collection's reads and its upkeep use."""

    collection: str
    live: str | None = None
    standby: str | None = None
    candidate: str | None = None
    version: int = 0
    #: The tag that a share of the searches also asks in the background; and whether those questions are kept in words.
    shadow_tag: str | None = None
    shadow_share: float = 0.0
    keep_queries: bool = False
    #: The share of the searches that the candidate serves.
    ramp_share: float = 0.0

    @property
    def maintained(self) -> tuple[str, ...]:
        """The tags that must stay complete: live, standby, candidate; a revision may lead back to the standby."""
        return tuple(dict.fromkeys(tag for tag in (self.live, self.standby, self.candidate) if tag is not None))

    def role(self, tag: str) -> Role:
        """Return what a tag is to the collection; it is kept where reads neither use it nor come to it."""
        roles: dict[str | None, Role] = {self.live: "live", self.standby: "standby", self.candidate: "candidate"}
        return roles.get(tag, "kept")

    @property
    def shadow(self) -> str | None:
        """The tag to ask too, as long as it is kept complete and is not the one that answers anyway."""
        return self.shadow_tag if self.shadow_tag in (self.standby, self.candidate) else None


@dataclass(frozen=True, slots=True)
class Rejected:
    """One record that cannot be embedded as it is, under one tag."""

    collection: str
    tag: str
    #: The values of the key columns, as JSON has them.
    key: list[Any]
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of the history: who did what, when, with which figures."""

    id: int
    at: datetime
    #: What was done, in one word: cutover, rollback, sync, failed, …. Those of other versions are kept as they are.
    kind: str
    revision: str | None
    collection: str | None
    tag: str | None
    role: str
    #: None where it was done by SQL.
    host: str | None
    git_commit: str | None
    #: Vecmig's.
    version: str
    #: The figures, which each kind has of its own.
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who writes to the ledger: host, program version, and the commit of the scripts where git knows it."""

    host: str
    version: str
    git_commit: str | None = None


def tag_among(rows: Iterable[TagRow], collection: str, tag: str) -> TagRow:
    """Return one tag of a collection among those that are recorded.

    Raises:
        NotRecorded: it is not among them.
    """
    recorded = {row.tag: row for row in rows if row.collection == collection}
    if tag not in recorded:
        raise NotRecorded(
            f"Collection {collection} has no tag {tag}.",
            hint=f"Its tags are: {', '.join(recorded) or 'none yet; run: vecmig upgrade head'}",
        )
    return recorded[tag]
