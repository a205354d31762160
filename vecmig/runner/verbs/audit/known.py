"""Which findings a team knows of already, and which of its entries say nothing any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from vecmig.config.known_findings import KnownFinding
from vecmig.runner.verbs.audit.finding import Finding


@dataclass(frozen=True, slots=True)
class Ignored:
    """A finding, and the entry of collections.yaml that knows it."""

    finding: Finding
    entry: KnownFinding


@dataclass(frozen=True, slots=True)
class SetApart:
    """What was found, by what the team knows of it."""

    #: Those that count; the ended ones are among them.
    findings: tuple[Finding, ...]
    ignored: tuple[Ignored, ...]
    #: Findings whose entry has come to its end.
    ended: tuple[Ignored, ...]
    #: Entries that match nothing.
    unmatched: tuple[KnownFinding, ...]


def set_apart(
    findings: Sequence[Finding],
    entries: Sequence[KnownFinding],
    today: date,
    *,
    collections: Sequence[str] = (),
    ask: bool = True,
) -> SetApart:
    """Set apart what is known; of several entries for one finding, the one that ends last counts.

    Args:
        findings: what was found.
        entries: what collections.yaml knows.
        today: by the database's clock.
        collections: what was looked at alone; empty for all.
        ask: whether the models were asked.
    """
    counting: list[Finding] = []
    ignored: list[Ignored] = []
    ended: list[Ignored] = []
    matched: set[KnownFinding] = set()
    for finding in findings:
        knowing = [entry for entry in entries if _knows(entry, finding)]
        matched.update(knowing)
        last = max(knowing, key=lambda entry: entry.until, default=None)
        if last is not None and today <= last.until:
            ignored.append(Ignored(finding, last))
            continue
        counting.append(finding)
        if last is not None:
            ended.append(Ignored(finding, last))
    # of what was not looked at, nothing is known
    unmatched = tuple(
        entry
        for entry in entries
        if entry not in matched
        and (not collections or entry.collection in collections)
        and (ask or not entry.finding.startswith("canary"))
    )
    return SetApart(tuple(counting), tuple(ignored), tuple(ended), unmatched)


def _knows(entry: KnownFinding, finding: Finding) -> bool:
    return (
        entry.finding == finding.kind
        and entry.collection in (None, finding.collection)
        and entry.object in (None, finding.object)
    )
