"""Who may read what vecmig makes: no more, and no fewer, than may read the source, whatever the database's defaults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.relations import exists
from vecmig.source.source import Source


def is_protected(source: Source) -> bool:
    """Whether a vector is shown only to those who may see its record: a view may hide rows by who asks."""
    return source.row_security or not source.is_table


# What is made just now -----------------------------------------------------------------------------------------------


def close_table(connection: Connection, source: Source, relation: sql.Identifier) -> None:
    """Take from a table that was made just now all that it was born with; its row-level security is the source's."""
    _close(connection, [relation], born=True)
    word = sql.SQL("ENABLE" if is_protected(source) else "DISABLE")
    connection.execute(statement("ledger/access", "set_born_row_security", relation=relation, word=word))


def ensure_schema(connection: Connection, ledger: str, schema: str) -> None:
    """Create the schema of the vectors if it is not there, open to none but its owner; vecmig's own always is."""
    if schema == ledger or connection.execute(statement("ledger/access", "schema"), {"schema": schema}).fetchone():
        return
    name = sql.Identifier(schema)
    connection.execute(statement("ledger/schema", "create_schema", schema=name))
    # one that a team has made stays there when vecmig goes
    comment = sql.Literal(f"{ledger_comment(ledger)}: vectors")
    connection.execute(statement("ledger/access", "comment_schema", schema=name, comment=comment))
    _run(connection, "close_schema", schema=sql.Literal(_quoted(schema)))


def ledger_comment(schema: str) -> str:
    """Say of which ledger an object is, as the comments on what vecmig makes begin."""
    return f"vecmig (ledger in schema {_quoted(schema)})"


def close_function(connection: Connection, function: sql.Identifier) -> None:
    """Let none but its owner call a function."""
    _run(connection, "close_function", function=_name(function))


def open_search(connection: Connection, source: Source, *, born: bool) -> None:
    """Let those call the search function who may read the source; one that is new loses grants to single roles."""
    _open(connection, source, source.search, born=born)


def open_pick(connection: Connection, source: Source, ledger: str) -> None:
    """Let everybody call the function of the live view, by no grant to single roles; it reads nothing."""
    connection.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO PUBLIC").format(source.pick_signature(ledger)))
    _open(connection, source, source.pick(ledger), born=True)


def _open(connection: Connection, source: Source, function: sql.Identifier, *, born: bool) -> None:
    parts = {"function": _name(function), "source": _name(source.relation), "born": sql.Literal(born)}
    _run(connection, "open_search", **parts)


def own_relations(connection: Connection, schema: str) -> list[str]:
    """Name what is in vecmig's own schema."""
    return [
        row[0] for row in connection.execute(statement("ledger/access", "own_relations"), {"schema": _quoted(schema)})
    ]


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

    A dump does not say that no other role has rights on a table, so its new place decides. What a role was granted that
    default privileges do not give stays.
    """
    _close(connection, _own_tables(connection, schema), born=False)


def _own_tables(connection: Connection, schema: str) -> list[sql.Identifier]:
    values = {"schema": _quoted(schema)}
    return [
        sql.Identifier(schema, name) for (name,) in connection.execute(statement("ledger/access", "own_tables"), values)
    ]


# What is there -------------------------------------------------------------------------------------------------------


def mirror_access(connection: Connection, source: Source, ledger: str) -> None:
    """Protect the vectors as their source is protected now: its row-level security, and who may read all of it.

    Safe to repeat. It takes away what default privileges give to every new table, all grants on partitions (who names
    one goes round the policies of the vectors table), and what was granted because the source was: a right to read the
    vectors that somebody gave by hand stays. ``ledger`` is the schema of vecmig's own tables.
    """
    parts = _partitions(connection, source)
    _close(connection, [sql.Identifier(*row[:2]) for row in parts], born=True)
    _close(connection, [source.vectors], born=False, source=source)
    _mirror_row_security(connection, source, parts)
    mirror_grants(connection, source, source.vectors, ledger)
    _open_schema(connection, source)
    if exists(connection, source.live):
        mirror_grants(connection, source, source.live, ledger)
    open_search(connection, source, born=False)


def mirror_grants(
    connection: Connection, source: Source, target: sql.Identifier, ledger: str, *, made: bool = False
) -> None:
    """Grant SELECT to the roles that may read all of the source table, and revoke what others have for that reason.

    A source that is a view may hide rows by who asks; there, grants are left to its owner. A relation that is ``made``
    just now may get back later what belonged to the one before: what that had for this reason stays known.
    """
    if not source.is_table:
        return
    found = readers(connection, source, target, ledger)
    for role in found.shut_out:
        connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(target, _grantee(role)))
    for role in found.withdrawn:
        connection.execute(sql.SQL("REVOKE SELECT ON {} FROM {}").format(target, _grantee(role)))
    values = {"collection": source.collection.name, "target": _target(source, target)}
    mirrored = found.mirrored | found.known if made else found.mirrored
    roles = json.dumps(sorted(mirrored, key=str))
    query = statement("ledger/access", "record_mirrored", schema=sql.Identifier(ledger))
    connection.execute(query, values | {"roles": roles})


@dataclass(frozen=True, slots=True)
class Readers:
    """How the grants of a relation differ from those of its source; a role is None for PUBLIC."""

    #: Who may read the source, and not yet the relation.
    shut_out: frozenset[str | None]
    #: Who may read the relation because of the source, which they may read no more.
    withdrawn: frozenset[str | None]
    #: Who is to have SELECT because of the source, and whom vecmig granted it for that reason until now.
    mirrored: frozenset[str | None]
    known: frozenset[str | None]


def readers(connection: Connection, source: Source, target: sql.Identifier, ledger: str) -> Readers:
    """Compare who may read a relation of a collection with who may read all of the source."""
    parts = {
        "of_source": statement("ledger/access", "readers_of", relation=sql.Placeholder("source")),
        "of_relation": statement("ledger/access", "readers_of", relation=sql.Placeholder("relation")),
    }
    names = {"source": source.relation.as_string(None), "relation": target.as_string(None)}
    found = connection.execute(statement("ledger/access", "readers", **parts), names).fetchone()
    wanted, had, withdrawable = (frozenset(roles) for roles in found or ((), (), ()))
    values = {"collection": source.collection.name, "target": _target(source, target)}
    row = connection.execute(statement("ledger/access", "mirrored", schema=sql.Identifier(ledger)), values).fetchone()
    # as an earlier version left it, nobody can tell who granted what the source's readers have
    known = wanted & had if row is None or not isinstance(row[0], list) else frozenset(row[0])
    return Readers(wanted - had, (known - wanted) & withdrawable, (known | (wanted - had)) & wanted, known)


def _open_schema(connection: Connection, source: Source) -> None:
    """Let those who may read the vectors table name it: a search runs with the rights of who asks."""
    if source.is_table:
        _grant_usage(connection, source, source.relation)


def _grant_usage(connection: Connection, source: Source, relation: sql.Identifier) -> None:
    values = {"source": relation.as_string(None), "schema": source.vectors_schema}
    for (role,) in connection.execute(statement("ledger/access", "without_usage"), values).fetchall():
        parts = {"schema": sql.Identifier(source.vectors_schema), "role": _grantee(role)}
        connection.execute(statement("ledger/access", "grant_usage", **parts))


@dataclass(frozen=True, slots=True)
class RowSecurity:
    """Row-level security of a vectors table, beside what it is to be."""

    wanted: bool
    enabled: bool
    #: Whether it has the policy that follows the source's, and whether it has others.
    as_source: bool
    others: bool
    #: The partitions on which it is not as wanted.
    parts: tuple[sql.Identifier, ...]

    @property
    def right(self) -> bool:
        """Whether the vectors table has it where it is to, and not elsewhere."""
        # a policy of the team's own on the vectors keeps its effect
        return self.enabled == self.wanted or (not self.wanted and self.others)


def row_security(connection: Connection, source: Source) -> RowSecurity:
    """Look at the row-level security of the vectors table and its partitions."""
    return _row_security(connection, source, _partitions(connection, source))


def _row_security(connection: Connection, source: Source, partitions: Sequence[tuple[str, str, bool]]) -> RowSecurity:
    row = connection.execute(
        statement("ledger/access", "row_security"), {"name": source.vectors.as_string(None)}
    ).fetchone()
    enabled, as_source, others = row or (False, False, False)
    wanted = is_protected(source)
    parts = tuple(sql.Identifier(*row[:2]) for row in partitions if row[2] != wanted)
    return RowSecurity(wanted, bool(enabled), bool(as_source), bool(others), parts)


def _mirror_row_security(connection: Connection, source: Source, partitions: Sequence[tuple[str, str, bool]]) -> None:
    """Hide a vector from whoever may not see its record; show it where an event trigger has hidden all."""
    found = _row_security(connection, source, partitions)
    if found.wanted and not found.as_source:
        match = source.match_source("s", f"{source.collection.name}_vectors")
        policy = {"vectors": source.vectors, "source": source.relation, "match_source": match}
        connection.execute(statement("ledger/access", "create_policy", **policy))
    elif found.as_source and not found.wanted:
        connection.execute(statement("ledger/access", "drop_policy", vectors=source.vectors))
    word = sql.SQL("ENABLE" if found.wanted else "DISABLE")
    for relation in (*(() if found.right else (source.vectors,)), *found.parts):
        connection.execute(statement("ledger/access", "set_row_security", relation=relation, word=word))


def follow_vectors(connection: Connection, source: Source) -> None:
    """Let those name the vectors table who may read it: it was moved, and a team had granted on it by hand."""
    _grant_usage(connection, source, source.vectors)


# Grants of the team's on the live view -------------------------------------------------------------------------------


def remember_grants(connection: Connection, source: Source, schema: str) -> None:
    """Keep in the ledger who was granted what on the live view, if it is there: what drops it drops its grants.

    One that is seen for the first time loses before what it was born with.
    """
    asked = _asked(connection, source, schema)
    if asked is not None:
        _close(connection, [source.live], born=False, source=source, asked=asked)
    parts = {"schema": sql.Identifier(schema), "seen": _seen()}
    connection.execute(statement("ledger/access", "remember_grants", **parts), _view(source))


def restore_grants(connection: Connection, source: Source, schema: str) -> None:
    """Give a live view that was made just now the grants that it had, and those of the source."""
    _close(connection, [source.live], born=True)
    query = statement("ledger/access", "remembered_grants", schema=sql.Identifier(schema))
    for role, privilege, grantable, column in connection.execute(query, _view(source)).fetchall():
        connection.execute(
            sql.SQL("GRANT {}{} ON {} TO {}{}").format(
                sql.SQL(privilege),
                sql.SQL(" ({})").format(sql.Identifier(column)) if column else sql.SQL(""),
                source.live,
                _grantee(role),
                sql.SQL(" WITH GRANT OPTION" if grantable else ""),
            )
        )
    mirror_grants(connection, source, source.live, schema, made=True)
    remember_grants(connection, source, schema)


# What default privileges gave ----------------------------------------------------------------------------------------


def born_open(connection: Connection, source: Source, schema: str) -> list[tuple[str, str]]:
    """Return which rights a sync would take away that default privileges gave: (relation, role).

    On vecmig's own tables, on the vectors table, and on a live view that was not seen before.
    """
    found = _unmeant(connection, _own_tables(connection, schema), born=False)
    found += _unmeant(connection, [source.vectors], born=False, source=source)
    asked = _asked(connection, source, schema)
    if asked is not None:
        found += _unmeant(connection, [source.live], born=False, source=source, asked=asked)
    return found


def open_partitions(connection: Connection, source: Source) -> list[tuple[str, str]]:
    """Return which rights on partitions somebody has, whoever gave them: (relation, role)."""
    return _unmeant(connection, partitions(connection, source), born=True)


def _asked(connection: Connection, source: Source, schema: str) -> str | None:
    """Return what is known to have been granted on a live view on purpose; None where all of it is."""
    parts = {"schema": sql.Identifier(schema), "seen": _seen()}
    row = connection.execute(statement("ledger/access", "asked", **parts), _view(source)).fetchone()
    return row[0] if row and isinstance(row[0], str) else None


def _seen() -> sql.Composed:
    return statement("ledger/access", "seen", identity=statement("ledger/collections", "identity"))


def _view(source: Source) -> dict[str, str]:
    return {"collection": source.collection.name, "view": source.live.as_string(None)}


# ---------------------------------------------------------------------------------------------------------------------


def _close(
    connection: Connection,
    relations: Sequence[sql.Identifier],
    *,
    born: bool,
    source: Source | None = None,
    asked: str = "[]",
) -> None:
    _run(connection, "close", unmeant=_unmeant_of(relations, born, source, asked))


def _unmeant(
    connection: Connection,
    relations: Sequence[sql.Identifier],
    *,
    born: bool,
    source: Source | None = None,
    asked: str = "[]",
) -> list[tuple[str, str]]:
    rows = connection.execute(_unmeant_of(relations, born, source, asked)).fetchall()
    return [(name, role) for _, name, role, _ in rows]


def _unmeant_of(relations: Sequence[sql.Identifier], born: bool, source: Source | None, asked: str) -> sql.Composed:
    return statement(
        "ledger/access",
        "unmeant",
        relations=sql.Literal([relation.as_string(None) for relation in relations]),
        born=sql.Literal(born),
        source=_name(source.relation) if source is not None else sql.Literal(None),
        asked=sql.Literal(asked),
    )


def _run(connection: Connection, name: str, **parts: sql.Composable) -> None:
    body = sql.Literal(statement("ledger/access", name, **parts).as_string(None))
    connection.execute(statement("ledger/access", "run", body=body))


def partitions(connection: Connection, source: Source) -> list[sql.Identifier]:
    """Name the partitions of a vectors table."""
    return [sql.Identifier(*row[:2]) for row in _partitions(connection, source)]


def _partitions(connection: Connection, source: Source) -> list[tuple[str, str, bool]]:
    values = {"vectors": source.vectors.as_string(None)}
    return connection.execute(statement("ledger/access", "partitions"), values).fetchall()


def _target(source: Source, relation: sql.Identifier) -> str:
    return "vectors" if relation == source.vectors else "live"


def _grantee(role: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if role is None else sql.Identifier(role)


def _name(relation: sql.Identifier) -> sql.Literal:
    return sql.Literal(relation.as_string(None))


def _quoted(schema: str) -> str:
    return sql.Identifier(schema).as_string(None)
