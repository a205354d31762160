"""Rights that differ between a source and its vectors: grants, row-level security, and whose rights a search has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from vecmig.inventory.auditing import Grant, grants, policies, shut_out, with_owners_rights
from vecmig.ledger.access import is_protected
from vecmig.runner.verbs.audit.finding import Finding, Severity, Subject

_WRITES: Final = frozenset(("INSERT", "UPDATE", "DELETE", "TRUNCATE"))


def findings(subject: Subject) -> Iterator[Finding]:
    """Compare what protects the vectors with what protects the source."""
    relations = (*subject.relations, *((subject.live_view,) if subject.route.live else ()))
    granted = grants(subject.connection, subject.source, relations, subject.migrators)
    yield from _open(subject, granted)
    yield from _shut(subject)
    yield from _row_security(subject)
    yield from _owners_rights(subject)
    yield from _writing(subject, granted)


def _open(subject: Subject, all_granted: list[Grant]) -> Iterator[Finding]:
    """Name the roles that may read vectors of records that they may not read."""
    by_role: dict[str | None, list[Grant]] = defaultdict(list)
    for grant in all_granted:
        around = subject.source.row_security and grant.object in _parts(subject)
        if "SELECT" in grant.privileges and (around or not grant.reads_source):
            by_role[grant.role].append(grant)
    for role, granted in by_role.items():
        objects = [grant.object for grant in granted]
        # the view asks for the reader's own right on the source, so that one alone shows nothing
        severity: Severity = "warning" if objects == [subject.live_view] else "error"
        why = f"and may not read {subject.table}"
        if granted[0].reads_source:
            why = f"where no policy of {subject.table} holds: a partition has none"
        yield subject.finding(
            "open vectors",
            severity,
            _role(role),
            f"{_role(role)} may read {', '.join(objects)}, {why}.",
            _revoke(["SELECT"], objects, role),
            relations=objects,
            reads_source=granted[0].reads_source,
        )


def _shut(subject: Subject) -> Iterator[Finding]:
    if not subject.source.is_table:
        return
    lacking: dict[str | None, list[str]] = defaultdict(list)
    targets = [subject.source.vectors, *([subject.source.live] if subject.route.live else [])]
    for target, name in zip(targets, (subject.vectors, subject.live_view), strict=False):
        for role in shut_out(subject.connection, subject.source, target):
            lacking[role].append(name)
    for role, objects in lacking.items():
        yield subject.finding(
            "no access",
            "warning",
            _role(role),
            f"{_role(role)} may read {subject.table}, and not {' and '.join(objects)}: it cannot search.",
            f"vecmig sync {subject.argument}",
            relations=objects,
        )


def _row_security(subject: Subject) -> Iterator[Finding]:
    if not is_protected(subject.source):
        return
    security = policies(subject.connection, subject.source)
    if not (security.enabled and security.as_source):
        what = "no row-level security" if not security.enabled else "lost the policy that follows the source's"
        yield subject.finding(
            "no row security",
            "error",
            subject.vectors,
            f"{subject.table} {'has row-level security' if subject.source.row_security else 'is no table'}, and its "
            f"vectors have {what}.",
            f"vecmig sync {subject.argument}",
        )
    for policy in security.others:
        yield subject.finding(
            "wider policy",
            "error",
            subject.vectors,
            f"The policy {policy} shows vectors beside those whose records may be seen: permissive policies add up.",
            f'DROP POLICY "{policy}" ON {subject.vectors};',
            policy=policy,
        )


def _owners_rights(subject: Subject) -> Iterator[Finding]:
    view, functions = with_owners_rights(subject.connection, subject.source)
    detail = "It runs with its owner's rights, so that the rights and policies of who asks do not hold."
    if view and subject.route.live:
        fix = f"ALTER VIEW {subject.live_view} SET (security_invoker = true);"
        yield subject.finding("owner's rights", "error", subject.live_view, detail, fix)
    for function in functions:
        fix = f"ALTER FUNCTION {function} SECURITY INVOKER;"
        yield subject.finding("owner's rights", "error", function, detail, fix)


def _writing(subject: Subject, all_granted: list[Grant]) -> Iterator[Finding]:
    by_role: dict[str | None, list[Grant]] = defaultdict(list)
    for grant in all_granted:
        if _WRITES & set(grant.privileges):
            by_role[grant.role].append(grant)
    for role, granted in by_role.items():
        words = sorted(_WRITES & {word for grant in granted for word in grant.privileges})
        objects = [grant.object for grant in granted]
        yield subject.finding(
            "write grants",
            "warning",
            _role(role),
            f"{_role(role)} may {', '.join(words)} on {', '.join(objects)}: vectors could come past vecmig.",
            _revoke(words, objects, role),
            privileges=words,
            relations=objects,
        )


def _parts(subject: Subject) -> frozenset[str]:
    return frozenset(part.object for part in subject.parts)


def _revoke(privileges: Sequence[str], objects: Sequence[str], role: str | None) -> str:
    return " ".join(("REVOKE", ", ".join(privileges), "ON", ", ".join(objects), "FROM", f"{_role(role)};"))


def _role(role: str | None) -> str:
    return "PUBLIC" if role is None else role
