"""What ``sync --watch`` keeps of one collection, and what it says of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from vecmig.backfill.tag_follower import TagFollower
from vecmig.errors import ConfigError
from vecmig.events import Noted
from vecmig.freshness.change_tracking import trigger_names
from vecmig.freshness.changes import Lag, Look
from vecmig.inventory.auditing import silent_writers
from vecmig.inventory.standing import Standing
from vecmig.ledger.identity import SourceReplaced, find_source
from vecmig.operations.context import Context
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source
from vecmig.text import duration

#: Seconds between two passes over a source that nothing tells the changes of, at least.
SCAN_EVERY: Final = 60.0


@dataclass(slots=True)
class Watched:
    """What the service keeps of one collection."""

    name: str
    source: Source | None = None
    #: Why its changes are found by scanning; empty where triggers tell of them.
    scanned: str = ""
    followers: dict[str, TagFollower] = field(default_factory=dict)
    #: From when on changes are news.
    since: str | None = None
    #: Times of the clock: of the next pass over the full source, and before which the outbox is not cleared again.
    full_at: float = 0.0
    forget_at: float = 0.0
    #: How its objects stood when they were looked at last, and before when they are not looked at again.
    standing: Standing | None = None
    standing_at: float = 0.0
    #: What a person was asked to say of its source, and before when it is not looked whether that was said.
    asked: str = ""
    ask_at: float = 0.0
    #: The newest note of a full pass that was answered, and the time before which no other one is.
    answered: int = 0
    answer_at: float = 0.0
    #: Whether a follower did something since the outbox was cleared last.
    to_forget: bool = False
    #: What was embedded, by tag, and rejected since it was told last; and when that began.
    done: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    began: float = 0.0
    #: The tags of which it was told that they are kept complete.
    told: set[str] = field(default_factory=set)
    #: The tags that are left to somebody else, as it was told.
    left: dict[str, Noted] = field(default_factory=dict)

    def full_pass_due(self, now: float, newest: int) -> bool:
        """Whether the first pass was begun, and another one is due: by the clock, or because it was noted as needed."""
        noted = newest > self.answered and now >= self.answer_at
        if noted:
            self.answered, self.answer_at = newest, now + SCAN_EVERY
        return self.full_at > 0 and (noted or now >= self.full_at)


def waits(behind: Lag) -> str:
    """Say what waits, of a collection whose tags are so far behind."""
    if not behind.records:
        return "no change waits"
    many = f"{behind.records:,} changes wait, the oldest" if behind.records > 1 else "1 change waits,"
    return f"{many} for {duration(round(behind.seconds))}"


def require_same(source: Source, found: Look) -> None:
    """Refuse to go on by a collections.yaml that is not the one that the database was brought to."""
    now = source.collection
    if (now.text, now.where, now.change_tracking, now.live_columns) != found.recorded:
        raise ConfigError(
            f"text, where, change_tracking or live_columns of {now.name} is not what the database was brought to.",
            state="Nothing was changed.",
            hint="Start it again with the newest collections.yaml; if this is the newest, run once: vecmig sync",
        )


def is_otherwise(context: Context, source: Source) -> bool:
    """Return whether a source is called otherwise than when it was looked at, or its name leads to another table."""
    with context.database.session() as connection:
        try:
            found = find_source(context.ledger(connection), context.collections.collection(source.collection.name))
        except SourceReplaced:
            return True
    return replace(source, columns=found.columns) != found


def bypassed(connection: Connection, source: Source) -> str:
    """Name what is set up to write to a source without firing its triggers; empty where nothing is."""
    found = silent_writers(connection, source, trigger_names(source))
    return "; ".join(f"{what} {name} fires no triggers" for what, name in found)
