"""Indexes that no search uses: invalid, missing, for another metric, once too often, or idle for a week."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from vecmig.homes import index_name, opclass_name, open_home
from vecmig.inventory.auditing import VectorIndex
from vecmig.ledger.trust_clock import clock
from vecmig.runner.verbs.audit.finding import Finding, Severity, Subject

#: An index that no search used for so long is not used.
IDLE: Final = timedelta(days=7)


def findings(subject: Subject, indexes: Sequence[VectorIndex], counted_since: datetime | None) -> Iterator[Finding]:
    """Judge the indexes on the partitions of one collection.

    Args:
        subject: the collection.
        indexes: all vector indexes of the database.
        counted_since: when the server's statistics were reset; None if they never were.
    """
    for tag in subject.kept:
        part = subject.part(tag)
        if part is None:
            continue
        name = index_name(subject.name, tag, subject.stamps(tag).index)
        of_partition = [
            index for index in indexes if (index.schema, index.table) == (subject.source.vectors_schema, part.name)
        ]
        made = next((index for index in of_partition if index.name == name), None)
        yield from _extra(subject, tag, [index for index in of_partition if index is not made])
        if made is not None:
            yield from _own(subject, tag, made, counted_since)
        elif (
            tag == subject.route.live
            and part.state == "attached"
            and not open_home(subject.ledger, subject.source, tag).index().usable
        ):
            detail = "The live tag has no index: each search reads all its vectors."
            yield subject.finding("no index", "error", part.object, detail, _sync(subject), tag=tag)


def foreign_findings(indexes: Sequence[VectorIndex]) -> Iterator[Finding]:
    """Judge the indexes on tables that are not vecmig's: a broken build is no better there."""
    for index in indexes:
        if not index.valid:
            yield Finding("invalid index", "warning", None, None, index.object, _INVALID, _drop(index), _figures(index))


_INVALID: Final = "Its build was cut short: every write keeps it up, and no query uses it."


def _own(subject: Subject, tag: str, index: VectorIndex, counted_since: datetime | None) -> Iterator[Finding]:
    live = tag == subject.route.live
    if not index.valid:
        severity: Severity = "error" if live else "warning"
        fix = "vecmig upgrade head" if tag == subject.route.candidate else _sync(subject)
        if tag not in subject.route.maintained:
            fix = _drop(index)
        yield subject.finding("invalid index", severity, index.object, _INVALID, fix, tag=tag, **_figures(index))
    elif wrong := _mistakes(subject, tag, index):
        severity = "error" if live else "warning"
        fix = f"{_drop(index)} then: {_sync(subject)}"
        detail = f"No search can use it: {wrong}."
        yield subject.finding("other index", severity, index.object, detail, fix, tag=tag, **_figures(index))
    elif live and _is_idle(subject, tag, index, counted_since):
        yield subject.finding(
            "unused index",
            "warning",
            index.object,
            f"No search used it for {IDLE.days} days, though the planner would take it.",
            f"Read the plan of what your application sends: it must order by the live view's embedding. If nothing "
            f"searches {subject.name}, its vectors cost for nothing.",
            tag=tag,
            **_figures(index),
        )


def _mistakes(subject: Subject, tag: str, index: VectorIndex) -> str:
    collection, stamps = subject.source.collection, subject.stamps(tag)
    opclass = opclass_name(stamps)
    if index.method != "hnsw":
        return f"it is an {index.method} index"
    if index.opclass != opclass:
        return f"its operator class is {index.opclass}, and {collection.metric} distance needs {opclass}"
    cast = f"::{stamps.index_type}({stamps.dims})"
    if cast[2:] not in index.definition:
        return f"it is not over embedding{cast}"
    return ""


def _is_idle(subject: Subject, tag: str, index: VectorIndex, counted_since: datetime | None) -> bool:
    """Whether reads had a week to use it, the server counted all that time, and the planner would use it."""
    row = subject.ledger.live_revision(subject.name)
    if index.scans or row is None:
        return False
    times = clock(subject.connection, subject.ledger.schema, subject.name, row.id)
    if times.now - max(times.since, counted_since or times.since) < IDLE:
        return False
    return open_home(subject.ledger, subject.source, tag).plan()[0]


def _extra(subject: Subject, tag: str, indexes: Sequence[VectorIndex]) -> Iterator[Finding]:
    of_tag = subject.name, tag
    known = subject.ledger.revisions.all().values()
    rows = [row for row in known if row.index_only and (row.collection, row.new_tag) == of_tag]
    to_come = {
        index_name(subject.name, tag, subject.source.collection.index_of(tag)) for row in rows if row.in_progress
    }
    before = {index_name(subject.name, tag, row.index_before): row for row in rows if row.applied and row.index_before}
    for index in indexes:
        if index.name in to_come:
            continue
        detail = f"A second vector index of the tag ({index.method}, {index.opclass}): each write pays for it."
        fix = f"If no query uses it: {_drop(index)}"
        if (row := before.get(index.name)) is not None:
            detail += f" It served before revision {row.id}, and would serve again after a rollback of that."
            fix = f"Once the new one is trusted: {_drop(index)} A rollback would build it again."
        yield subject.finding("extra index", "warning", index.object, detail, fix, tag=tag, **_figures(index))


def _sync(subject: Subject) -> str:
    return f"vecmig sync {subject.argument}"


def _drop(index: VectorIndex) -> str:
    return f"DROP INDEX CONCURRENTLY {index.object};"


def _figures(index: VectorIndex) -> dict[str, object]:
    return {"scans": index.scans, "bytes": index.bytes, "opclass": index.opclass}
