"""What ``sync --watch`` says of one collection, and asks of its source."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final

from vecmig.backfill import Figures
from vecmig.errors import ConfigError
from vecmig.freshness.change_tracking import silent_writers
from vecmig.freshness.changes import Lag, Look
from vecmig.ledger.identity import SourceReplaced, find_source
from vecmig.operations.context import Context
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source
from vecmig.text import duration

#: Seconds between two passes over a source that nothing tells the changes of, at least.
SCAN_EVERY: Final = 60.0


@dataclass(slots=True)
class Done:
    """What the followers of a collection did since it was told last."""

    #: Whether one did something since the outbox was cleared last.
    to_forget: bool = False
    #: Records that were embedded and whose vectors were taken over, by tag, and rejected; and when that began.
    embedded: Counter[str] = field(default_factory=Counter)
    adopted: Counter[str] = field(default_factory=Counter)
    rejected: int = 0
    began: float = 0.0

    def begin(self) -> None:
        """Take the time, unless work is going on already."""
        self.began = self.began or time.monotonic()

    def add(self, tag: str, done: Figures) -> None:
        """Count a pass."""
        self.to_forget = True
        self.embedded[tag] += done.written
        self.adopted[tag] += done.adopted
        self.rejected += done.rejected

    @property
    def words(self) -> str:
        """What was done; empty where that was nothing."""
        parts = [f"{count:,} embedded under {tag}" for tag, count in self.embedded.items() if count]
        parts += [f"{count:,} taken over under {tag}" for tag, count in self.adopted.items() if count]
        return ", ".join([*parts, *([f"{self.rejected:,} rejected"] if self.rejected else [])])


def waits(behind: Lag) -> str:
    """Say what waits, of a collection whose tags are so far behind."""
    if not behind.records:
        return "no change waits"
    many = f"{behind.records:,} changes wait, the oldest" if behind.records > 1 else "1 change waits,"
    return f"{many} for {duration(round(behind.seconds))}"


class CollectionChanged(ConfigError):
    """The database was brought to another collections.yaml than the one that was read."""


def require_same(source: Source, seen: Look) -> None:
    """Refuse to go on by a collections.yaml that is not the one that the database was brought to."""
    now = source.collection
    if (now.text, now.where, now.change_tracking, now.live_columns) != seen.recorded:
        raise CollectionChanged(
            f"text, where, change_tracking or live_columns of {now.name} is not what the database was brought to.",
            state="Nothing was changed.",
            hint="Start it again with the newest collections.yaml; if this is the newest, run once: vecmig sync",
        )


def is_otherwise(context: Context, source: Source) -> bool:
    """Return whether a source is called otherwise than when it was looked at, or its name leads to another table."""
    with context.database.session() as connection:
        try:
            now = find_source(context.ledger(connection), context.collections.collection(source.collection.name))
        except SourceReplaced:
            return True
    return replace(source, columns=now.columns) != now


def bypassed(connection: Connection, source: Source) -> str:
    """Name what is set up to write to a source without firing its triggers; empty where nothing is."""
    writers = silent_writers(connection, source)
    return "; ".join(f"{what} {name} fires no triggers" for what, name in writers)
