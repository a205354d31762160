"""Rights and places that are not as vecmig would make them today: of vectors, the search, and vecmig's own tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vecmig.inventory.auditing import shut_out
from vecmig.inventory.protection import cannot_search, foreign_operators, own_grants
from vecmig.ledger.access import row_security
from vecmig.postgres.sessions import Connection
from vecmig.runner.verbs.audit.finding import Finding, Subject


def findings(subject: Subject) -> Iterator[Finding]:
    """Look at one collection."""
    yield from _one_side_only(subject)
    yield from _cannot_search(subject)
    yield from _foreign_operators(subject)
    yield from _elsewhere(subject)


def own_findings(connection: Connection, schema: str, roles: Sequence[str]) -> Iterator[Finding]:
    """Check vecmig's own tables."""
    for table, role, privileges in own_grants(connection, schema, roles):
        who, words = role or "PUBLIC", ", ".join(privileges)
        yield Finding(
            "open ledger",
            "error" if {"INSERT", "UPDATE", "DELETE", "TRUNCATE"} & set(privileges) else "warning",
            None,
            None,
            table,
            f"{who} may {words} there: it is vecmig's own, and a reader needs no such right.",
            f"REVOKE {words} ON {table} FROM {who};",
            {"role": role, "privileges": privileges},
        )


def _one_side_only(subject: Subject) -> Iterator[Finding]:
    """Name where the vectors have row-level security that their source lacks, and partitions that lack it."""
    security, fix = row_security(subject.connection, subject.source), f"vecmig sync {subject.argument}"
    if security.enabled and not security.wanted and not (security.as_source or security.others):
        detail = (
            f"{subject.table} has no row-level security, and its vectors have it without a policy: searches of all "
        )
        detail += "roles but the owner give nothing."
        yield subject.finding("hidden vectors", "error", subject.vectors, detail, fix)
    for part in subject.parts:
        if security.wanted and security.enabled and part.state == "attached" and not part.row_security:
            detail = "It has no row-level security, which the vectors table has: whoever may name it sees all of it."
            yield subject.finding("no row security", "error", part.object, detail, fix)


def _cannot_search(subject: Subject) -> Iterator[Finding]:
    if not subject.source.is_table or not subject.route.live:
        return
    # a role that may not read the vectors either is named once, see ``access``
    named = shut_out(subject.connection, subject.source, subject.source.vectors)
    for role in cannot_search(subject.connection, subject.source):
        if role in named:
            continue
        who = role or "PUBLIC"
        yield subject.finding(
            "no access",
            "warning",
            who,
            f"{who} may read {subject.table}, and lacks EXECUTE on {subject.name}_search or USAGE on the schema "
            f"{subject.source.vectors_schema}: it cannot search.",
            f"vecmig sync {subject.argument}",
            relations=[f"{subject.name}_search"],
        )


def _foreign_operators(subject: Subject) -> Iterator[Finding]:
    operators = foreign_operators(subject.connection, subject.source)
    if operators:
        yield subject.finding(
            "foreign operator",
            "error",
            subject.live_view,
            f"The live view compares by {', '.join(operators)}, which is not PostgreSQL's: it runs as whoever reads.",
            "vecmig ensure_version",
            operators=operators,
        )


def _elsewhere(subject: Subject) -> Iterator[Finding]:
    schema = subject.ledger.vectors_schema
    if subject.source.vectors_schema != schema:
        yield subject.finding(
            "vectors elsewhere",
            "warning",
            subject.vectors,
            f"The vectors are not in {schema}, where vectors_schema has them.",
            "vecmig ensure_version",
            wanted=schema,
        )
