"""Who may read what vecmig makes: no more, and no fewer, than may read the source, whatever the database's defaults."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from vecmig.store.catalog import Source, exists
from vecmig.store.connect import Connection
from vecmig.store.statements import statement


def is_protected(source: Source) -> bool:
    """Whether a vector is shown only to those who may see its record: a view may hide rows by who asks."""
    return source.row_security or not source.is_table


# What is made just now -----------------------------------------------------------------------------------------------


def close_table(connection: Connection, source: Source, relation: sql.Identifier) -> None:
    """Take from a table that was made just now all that it was born with; its row-level security is the source's."""
    _close(connection, [relation], born=True)
    word = sql.SQL("ENABLE" if is_protected(source) else "DISABLE")
    connection.execute(statement("access", "set_born_row_security", relation=relation, word=word))


def ensure_schema(connection: Connection, ledger: str, schema: str) -> None:
    """Create the schema of the vectors if it is not there, open to none but its owner; vecmig's own always is."""
    if schema == ledger or connection.execute(statement("access", "schema"), {"schema": schema}).fetchone():
        return
    connection.execute(statement("schema", "create_schema", schema=sql.Identifier(schema)))
    _run(connection, "close_schema", schema=sql.Literal(_quoted(schema)))


def close_view(connection: Connection, view: sql.Identifier) -> None:
    """Take from a view that was made just now all grants that it was born with."""
    _close(connection, [view], born=True)


def close_function(connection: Connection, function: sql.Identifier) -> None:
    """Let nobody but its owner call a function."""
    _run(connection, "close_function", function=_name(function))


def open_search(connection: Connection, source: Source, *, born: bool) -> None:
    """Let those call the search function who may read the source; one that is new loses grants to single roles."""
    parts = {"function": _name(source.search), "source": _name(source.relation), "born": sql.Literal(born)}
    _run(connection, "open_search", **parts)


def own_relations(connection: Connection, schema: str) -> list[str]:
    """Name what is in vecmig's own schema."""
    return [row[0] for row in connection.execute(statement("access", "own_relations"), {"schema": _quoted(schema)})]


def close_own(connection: Connection, schema: str, known: Sequence[str], *, created: bool) -> None:
    """Take from vecmig's own tables, sequences and functions what they were born with.

    Args:
        connection: inside the transaction that has made them.
        schema: theirs.
        known: the relations that were there before.
        created: whether the schema itself is new.
    """
    name = sql.Literal(_quoted(schema))
    _run(connection, "close_own", schema=name, known=sql.Literal(list(known)), created=sql.Literal(created))


def close_restored(connection: Connection, schema: str) -> None:
    """Take from what is in vecmig's own schema what default privileges gave it when a dump was restored.

    A dump does not say that nobody else has rights on a table, so its new place decides. What a role was granted that
    default privileges do not give stays.
    """
    _close(connection, [sql.Identifier(schema, name) for name in own_relations(connection, schema)], born=False)


# What is there -------------------------------------------------------------------------------------------------------


def mirror_access(connection: Connection, source: Source) -> None:
    """Protect the vectors as their source is protected now: its row-level security, and who may read it whole.

    Safe to repeat. It takes away only what default privileges give to every new table, and all grants on partitions:
    who names one goes round the policies of the vectors table. Who lost the right to read the source keeps that to read
    the vectors.
    """
    parts = [(sql.Identifier(*row[:2]), row[2]) for row in _partitions(connection, source)]
    _close(connection, [part for part, _ in parts], born=True)
    _close(connection, [source.vectors], born=False, source=source)
    _mirror_row_security(connection, source, parts)
    mirror_grants(connection, source, source.vectors)
    _open_schema(connection, source)
    if exists(connection, source.live):
        mirror_grants(connection, source, source.live)
    open_search(connection, source, born=False)


def mirror_grants(connection: Connection, source: Source, target: sql.Identifier) -> None:
    """Grant SELECT to the roles that may read the whole source table.

    A source that is a view may hide rows by who asks; there, grants are left to its owner.
    """
    if not source.is_table:
        return
    for role, public in _readers(connection, source.relation) - _readers(connection, target):
        connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(target, _grantee(None if public else role)))


def _open_schema(connection: Connection, source: Source) -> None:
    """Let those who may read the vectors table name it: a search runs with the rights of who asks."""
    if source.is_table:
        _grant_usage(connection, source, source.relation)


def _grant_usage(connection: Connection, source: Source, relation: sql.Identifier) -> None:
    values = {"source": relation.as_string(None), "schema": source.vectors_schema}
    for (role,) in connection.execute(statement("access", "without_usage"), values).fetchall():
        parts = {"schema": sql.Identifier(source.vectors_schema), "role": _grantee(role)}
        connection.execute(statement("access", "grant_usage", **parts))


def _mirror_row_security(connection: Connection, source: Source, parts: Sequence[tuple[sql.Identifier, bool]]) -> None:
    """Hide a vector from whoever may not see its record; show it where an event trigger has hidden all."""
    row = connection.execute(statement("access", "row_security"), {"name": source.vectors.as_string(None)}).fetchone()
    enabled, as_source, others = row or (False, False, False)
    wanted = is_protected(source)
    if wanted and not as_source:
        match = source.match_source("s", f"{source.collection.name}_vectors")
        policy = {"vectors": source.vectors, "source": source.relation, "match_source": match}
        connection.execute(statement("access", "create_policy", **policy))
    elif as_source and not wanted:
        connection.execute(statement("access", "drop_policy", vectors=source.vectors))
    word = sql.SQL("ENABLE" if wanted else "DISABLE")
    # a policy of the team's own on the vectors keeps its effect
    if enabled != wanted and (wanted or not others):
        connection.execute(statement("access", "set_row_security", relation=source.vectors, word=word))
    for part, on in parts:
        if on != wanted:
            connection.execute(statement("access", "set_row_security", relation=part, word=word))


def follow_vectors(connection: Connection, source: Source) -> None:
    """Let those name the vectors table who may read it: it was moved, and a team had granted on it by hand."""
    _grant_usage(connection, source, source.vectors)


# Grants of the team's on the live view -------------------------------------------------------------------------------


def remember_grants(connection: Connection, source: Source, schema: str) -> None:
    """Keep in the ledger who was granted what on the live view, if it is there: what drops it drops its grants."""
    query = statement("access", "remember_grants", schema=sql.Identifier(schema))
    values = {"collection": source.collection.name, "view": source.live.as_string(None)}
    connection.execute(query, values)


def restore_grants(connection: Connection, source: Source, schema: str) -> None:
    """Give a live view that was made just now the grants that it had, and those of the source."""
    close_view(connection, source.live)
    values = {"collection": source.collection.name, "view": source.live.as_string(None)}
    query = statement("access", "remembered_grants", schema=sql.Identifier(schema))
    for role, privilege, grantable, column in connection.execute(query, values).fetchall():
        connection.execute(
            sql.SQL("GRANT {}{} ON {} TO {}{}").format(
                sql.SQL(privilege),
                sql.SQL(" ({})").format(sql.Identifier(column)) if column else sql.SQL(""),
                source.live,
                _grantee(role),
                sql.SQL(" WITH GRANT OPTION" if grantable else ""),
            )
        )
    mirror_grants(connection, source, source.live)


# ---------------------------------------------------------------------------------------------------------------------


def _close(
    connection: Connection, relations: Sequence[sql.Identifier], *, born: bool, source: Source | None = None
) -> None:
    names = sql.Literal([relation.as_string(None) for relation in relations])
    whose = _name(source.relation) if source is not None else sql.Literal(None)
    _run(connection, "close", relations=names, born=sql.Literal(born), source=whose)


def _run(connection: Connection, name: str, **parts: sql.Composable) -> None:
    body = sql.Literal(statement("access", name, **parts).as_string(None))
    connection.execute(statement("access", "run", body=body))


def _partitions(connection: Connection, source: Source) -> list[tuple[str, str, bool]]:
    values = {"vectors": source.vectors.as_string(None)}
    return connection.execute(statement("access", "partitions"), values).fetchall()


def _readers(connection: Connection, relation: sql.Identifier) -> set[tuple[str, bool]]:
    values = {"source": relation.as_string(None)}
    return {(role, public) for role, public in connection.execute(statement("access", "readers"), values)}


def _grantee(role: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if role is None else sql.Identifier(role)


def _name(relation: sql.Identifier) -> sql.Literal:
    return sql.Literal(relation.as_string(None))


def _quoted(schema: str) -> str:
    return sql.Identifier(schema).as_string(None)
