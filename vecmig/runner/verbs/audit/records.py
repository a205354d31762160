"""Vectors that do not fit their records: stale, orphaned, missing, incomplete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from vecmig.errors import DatabaseError
from vecmig.inventory.auditing import Fault, faults
from vecmig.ledger.control import runs
from vecmig.runner.verbs.audit.finding import Finding, Severity, Subject
from vecmig.text import counted, noun

#: A sync that is at work has embedded a change within seconds; one that waits longer than this is worth a word.
PATIENCE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Sort:
    """What an audit says of one sort of fault."""

    kind: str
    #: With count, is, has and its left open.
    sentence: str
    #: Whether the vectors only take room in the index and are never shown.
    harmless: bool = False


_SORTS: Final = {
    "orphaned": _Sort("orphaned vectors", "{count} with vectors {is} gone from the source", harmless=True),
    "emptied": _Sort("vectors without text", "{count} with vectors {has} no text any more", harmless=True),
    "missing": _Sort("missing vectors", "{count} with a text {has} no vector"),
    "incomplete": _Sort("incomplete records", "{count} {has} only some of {its} chunks"),
    "stale": _Sort("stale vectors", "{count} {has} vectors of another text than {its} own"),
}
_UNNOTICED: Final = "; nothing told of a change: triggers were off, or somebody else wrote or deleted vectors"


def findings(subject: Subject) -> Iterator[Finding]:
    """Compare the live and the standby tag with the source, in one pass for each."""
    synced = any(
        run.what == "sync" and run.collection == subject.name
        for run in runs(subject.connection, subject.project.database.schema)
    )
    for tag in subject.served:
        if not subject.attached(tag):
            continue
        try:
            counts = faults(subject.connection, subject.stamps(tag))
        except DatabaseError as error:
            yield subject.finding("unreadable records", "error", subject.table, error.message, error.hint)
            return
        yield from (_finding(subject, tag, fault) for fault in counts if not (synced and _is_fresh(subject, fault)))


def _is_fresh(subject: Subject, fault: Fault) -> bool:
    return fault.since is not None and subject.now - fault.since < PATIENCE


def _finding(subject: Subject, tag: str, fault: Fault) -> Finding:
    sort = _SORTS[fault.kind]
    unnoticed = subject.source.tracked and not fault.known and not sort.harmless
    severity: Severity = "error" if unnoticed else "warning"
    why = f"; it changed, and waits to be embedded since {fault.since:%Y-%m-%d %H:%M:%S} UTC" if fault.since else ""
    first = f"first {'key' if len(fault.keys) == 1 else 'keys'}: {', '.join(fault.keys)}"
    words = {"is": noun(fault.records, "is", "are"), "has": noun(fault.records, "has", "have")}
    said = sort.sentence.format(
        count=counted(fault.records, "record"), its=noun(fault.records, "its", "their"), **words
    )
    return subject.finding(
        sort.kind,
        severity,
        written_part(subject, tag),
        f"{said}{_UNNOTICED if unnoticed else why} ({first}).",
        f"vecmig sync {subject.argument}",
        tag=tag,
        records=fault.records,
        keys=list(fault.keys),
        known=fault.known,
        since=fault.since,
    )


def written_part(subject: Subject, tag: str) -> str:
    """Name the partition of a tag."""
    part = subject.part(tag)
    return part.object if part is not None else subject.vectors
