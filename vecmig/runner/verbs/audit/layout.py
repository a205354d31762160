"""What the database has for a collection beside its records: partitions, constraints, triggers, view and function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vecmig.errors import DatabaseError
from vecmig.freshness.change_tracking import silent_writers, trigger_names
from vecmig.homes import open_home
from vecmig.inventory.auditing import Part, tags_in, trigger_faults
from vecmig.published.detaching import all_detached
from vecmig.published.live_view import has_search, reads_tag
from vecmig.runner.verbs.audit.finding import Finding, Severity, Subject
from vecmig.runner.verbs.downgrade import DowngradeCommand, downgrade_of
from vecmig.text import counted, data_size


def findings(subject: Subject) -> Iterator[Finding]:
    """Compare the catalogue with the ledger and with collections.yaml."""
    for part in subject.parts:
        yield from _part(subject, part)
    for tag in subject.kept:
        yield from _partition_of(subject, tag)
    if subject.source.tracked:
        yield from _triggers(subject)
        yield from _silent(subject)
    yield from _collations(subject)
    yield from _live(subject)


def followed(subject: Subject) -> Iterator[Finding]:
    """Tell where collections.yaml says another thing than what triggers, view and vectors were made by."""
    try:
        differs = subject.ledger.collections.edited(subject.source)
    except DatabaseError as error:
        finding = subject.finding("recorded otherwise", "error", subject.table, error.message, error.hint)
        yield replace(finding, blocks=True)
        return
    if differs:
        yield subject.finding(
            "not followed",
            "error",
            "collections.yaml",
            "text, where, change_tracking or live_columns was changed, and triggers and live view do not follow it "
            "yet; the vectors were not compared with the records.",
            f"vecmig sync {subject.argument}",
        )


# Partitions --------------------------------------------------------------------------------------------------------


def _part(subject: Subject, part: Part) -> Iterator[Finding]:
    tag = next((tag for tag in subject.tags if subject.source.partition_name(tag) == part.name), None)
    if part.bound == "DEFAULT":
        yield _stray(subject, part, "default partition", "takes vectors of tags that are not recorded")
    elif tag is None:
        kind = "unknown tag" if part.state == "attached" else "leftover partition"
        yield _stray(subject, part, kind, "belongs to no recorded tag")
    elif subject.tags[tag].state == "retired":
        yield subject.finding(
            "retired partition",
            "warning",
            part.object,
            f"The tag was retired, and its vectors are still there: {data_size(part.bytes)}, {part.state}.",
            f"vecmig retire {subject.argument} {tag}",
            tag=tag,
            bytes=part.bytes,
            state=part.state,
        )
    elif part.state != "attached":
        yield _detached(subject, part, tag)
    if part.updated:
        yield subject.finding(
            "updated vectors",
            "error",
            part.object,
            f"{counted(part.updated, 'row was', 'rows were')} updated in place since the server counts; vecmig never "
            "does that, and an UPDATE can put any vector under a tag and a hash.",
            "Find who did it (grants, triggers and functions below, the server's log), embed what they touched again, "
            f"then: SELECT pg_stat_reset_single_table_counters('{part.object}'::regclass);",
            tag=tag,
            rows=part.updated,
        )


def _stray(subject: Subject, part: Part, kind: str, what: str) -> Finding:
    vectors_by_tag = tags_in(subject.connection, part.object)
    detach = f"ALTER TABLE {subject.vectors} DETACH PARTITION {part.object}; " if part.state == "attached" else ""
    tags = f": {', '.join(vectors_by_tag)}" if vectors_by_tag else ""
    severity: Severity = "error" if part.state == "attached" else "warning"
    return subject.finding(
        kind,
        severity,
        part.object,
        f"It {what}; it has {counted(sum(vectors_by_tag.values()), 'vector')}{tags}.",
        f"If they are not needed: {detach}DROP TABLE {part.object};",
        vectors=sum(vectors_by_tag.values()),
        tags=vectors_by_tag,
        state=part.state,
        bytes=part.bytes,
    )


def _detached(subject: Subject, part: Part, tag: str) -> Finding:
    if part.state == "pending":
        fix = f"ALTER TABLE {subject.vectors} DETACH PARTITION {part.object} FINALIZE; "
        what = "A DETACH of the tag's partition was begun and not finished: no search sees its vectors."
    else:
        fix, what = "", "The tag's partition is detached: no search sees its vectors."
    literal = tag.replace("'", "''")
    fix += f"ALTER TABLE {subject.vectors} ATTACH PARTITION {part.object} FOR VALUES IN ('{literal}');"
    severity: Severity = "error" if tag in subject.route.maintained else "warning"
    return subject.finding("detached partition", severity, part.object, what, fix, tag=tag, state=part.state)


def _partition_of(subject: Subject, tag: str) -> Iterator[Finding]:
    part = subject.part(tag)
    if part is None:
        yield _gone(subject, tag)
        return
    home = open_home(subject.ledger, subject.source, tag)
    if part.state == "attached" and not home.guaranteed():
        yield subject.finding(
            "unchecked vectors",
            "error",
            part.object,
            "The constraint on dims and length of the tag's vectors is gone or was changed: any vector may be there.",
            home.guarantee_statement(),
            tag=tag,
        )


def _gone(subject: Subject, tag: str) -> Finding:
    if tag == subject.route.live:
        live = subject.ledger.live_revision(subject.name)
        back = downgrade_of(subject.project, subject.ledger.revisions.all(), live.id) if live else DowngradeCommand()
        fix = f"Restore it from a backup, or go back to the standby tag: {back.command}"
    elif tag == subject.route.candidate:
        fix = "vecmig upgrade head"
    else:
        fix = f"Restore it from a backup, or let the tag go: vecmig retire {subject.argument} {tag}"
    severity: Severity = "error" if tag in subject.route.maintained else "warning"
    return subject.finding(
        "partition gone",
        severity,
        subject.vectors,
        "The tag is recorded, and its partition is not there.",
        fix,
        tag=tag,
    )


# Triggers, view, function ------------------------------------------------------------------------------------------


def _triggers(subject: Subject) -> Iterator[Finding]:
    schema = subject.project.database.schema
    faults = trigger_faults(subject.connection, subject.source, schema, trigger_names(subject.source))
    if faults:
        words = ", ".join(f"{name} is {word}" for name, word in faults.items())
        yield subject.finding(
            "triggers",
            "error",
            subject.table,
            f"Nothing tells of changes any more: {words}.",
            f"vecmig sync {subject.argument}",
            triggers=faults,
        )


def _silent(subject: Subject) -> Iterator[Finding]:
    names = trigger_names(subject.source)
    for what, name in silent_writers(subject.connection, subject.source):
        if what == "subscription":
            always = ", ".join(f'ENABLE ALWAYS TRIGGER "{trigger}"' for trigger in names)
            detail = (
                f"Logical replication (subscription {name}) writes to the source, and fires no triggers of vecmig's."
            )
            fix = f"ALTER TABLE {subject.table} {always};"
        else:
            detail = f"session_replication_role is replica for {name}, so what they write fires no triggers."
            fix = "ALTER ROLE … RESET session_replication_role; (or ALTER DATABASE …), then: vecmig sync"
        yield subject.finding("silent writes", "warning", name, detail, fix, by=what)


def _collations(subject: Subject) -> Iterator[Finding]:
    for column in subject.source.key:
        if not column.collated:
            continue
        name = column.written
        yield subject.finding(
            "key collation",
            "warning",
            subject.vectors,
            f"Its key column {name} has another collation than {subject.table}, {column.collation}: no index serves, "
            "and each deletion and each page reads all vectors of a tag.",
            f"vecmig view detach {subject.argument}; ALTER TABLE {subject.vectors} ALTER COLUMN {name} "
            f"TYPE {column.type} COLLATE {column.collation}; vecmig view attach {subject.argument}",
            column=column.stored,
            collation=column.collation,
        )


def _live(subject: Subject) -> Iterator[Finding]:
    live, fix = subject.route.live, f"vecmig sync {subject.argument}"
    if live is None:
        return
    aside = all_detached(subject.connection, subject.ledger.schema).get(subject.name)
    if aside is not None:
        detail = f"It is detached since {aside.at:%Y-%m-%d %H:%M:%S} UTC by {aside.by}."
        attach = f"vecmig view attach {subject.argument}"
        yield subject.finding("live view", "warning", subject.live_view, detail, attach, tag=live)
    elif not reads_tag(subject.connection, subject.source, live, ledger=subject.ledger.schema):
        detail = f"It does not read the live tag {live}, or is not there."
        yield subject.finding("live view", "error", subject.live_view, detail, fix, tag=live)
    if not has_search(subject.connection, subject.source):
        detail = "The search function is gone."
        yield subject.finding("search function", "error", f"{subject.name}_search", detail, fix, tag=live)
