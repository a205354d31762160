"""Who writes vectors past vecmig: by what the rows say, by open transactions, functions and pg_stat_statements."""

from __future__ import annotations

from collections.abc import Iterator

from vecmig.homes import notes_writers
from vecmig.inventory.auditing import Writer, WritingSession, functions, sessions, statements, writers
from vecmig.runner.verbs.audit.finding import Finding, Subject
from vecmig.text import counted


def findings(subject: Subject) -> Iterator[Finding]:
    """Name everybody who is known to write to the vectors beside vecmig."""
    connection, source = subject.connection, subject.source
    if notes_writers(connection, source):
        for writer in writers(connection, source):
            yield _rows(subject, writer)
    for session in sessions(connection, source, subject.relations):
        yield _session(subject, session)
    for name, tables in functions(connection, source, subject.project.database.schema):
        called = f", called by triggers on {', '.join(tables)}" if tables else ""
        yield subject.finding(
            "writing function",
            "warning",
            name,
            f"Its text writes to {subject.vectors}{called}.",
            "Let it write the source only: vecmig makes the vectors. If nothing calls it: DROP FUNCTION " + name + ";",
            tables=list(tables),
        )
    for written in statements(connection, source, subject.migrators) or ():
        yield subject.finding(
            "foreign statements",
            "warning",
            written.role,
            f"{written.role} ran {counted(written.calls, 'statement')} that write to {subject.vectors} "
            f"({counted(written.rows, 'row')}): {' '.join(written.query.split())}",
            f"Let it write the source only, and revoke its rights on {subject.vectors}; to count from now: "
            "SELECT pg_stat_statements_reset();",
            calls=written.calls,
            rows=written.rows,
            query=written.query,
        )


def _rows(subject: Subject, writer: Writer) -> Finding:
    who = _who(writer.role, writer.application)
    condition = (
        f"tag = {_literal(writer.tag)} AND written_by = ARRAY[{_literal(writer.role)}, {_literal(writer.application)}]"
    )
    delete = " ".join(("DELETE FROM", subject.vectors, "WHERE", f"{condition};"))
    return subject.finding(
        "foreign vectors",
        "error",
        subject.vectors,
        f"{counted(writer.rows, 'vector was', 'vectors were')} inserted past vecmig by {who}, "
        f"from {writer.first:%Y-%m-%d %H:%M} to {writer.last:%Y-%m-%d %H:%M} UTC: what made them is not known.",
        f"Let it write the source only. {delete} then: vecmig sync {subject.argument}",
        tag=writer.tag,
        role=writer.role,
        application=writer.application,
        vectors=writer.rows,
        first=writer.first,
        last=writer.last,
    )


def _session(subject: Subject, session: WritingSession) -> Finding:
    where = f" from {session.address}" if session.address else ""
    return subject.finding(
        "foreign session",
        "warning",
        session.role,
        f"{_who(session.role, session.application)}{where} is writing to {subject.vectors} in an open transaction.",
        f"Let it write the source only, and revoke its rights on {subject.vectors}.",
        application=session.application,
        address=session.address,
        sessions=session.sessions,
    )


def _who(role: str, application: str) -> str:
    return f"role {role}, application {application or 'without a name'}"


def _literal(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))
