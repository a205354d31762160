"""How the rights to vectors differ from those to their source, as far as a sync mends it. It reads only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vecmig.ledger.access import born_open, open_partitions, readers, row_security
from vecmig.postgres.sessions import Connection
from vecmig.source.relations import exists
from vecmig.source.source import Source
from vecmig.text import counted, noun


def exposures(connection: Connection, source: Source, schema: str) -> list[str]:
    """Name how the vectors show more than their source, or less: what a sync would change.

    Rights that a person gave by hand are not among it; an audit names these.

    Args:
        connection: a connection; vecmig's own tables may be of an earlier version.
        source: the collection.
        schema: of vecmig's own tables.
    """
    if not exists(connection, source.vectors):
        return []
    found = list(_row_security(connection, source))
    born = _by_role(born_open(connection, source, schema))
    found += [f"default privileges have opened {_listed(names)} to {role}" for role, names in born.items()]
    parts = _by_role(open_partitions(connection, source))
    found += [f"{role} has rights on {_listed(names)}, past the vectors table" for role, names in parts.items()]
    return found + list(_readers(connection, source, schema))


def _row_security(connection: Connection, source: Source) -> Iterator[str]:
    found, table = row_security(connection, source), f"{source.schema}.{source.table}"
    has = f"{table} {'has it' if source.row_security else 'is no table'}"
    if found.wanted and not found.right:
        yield f"the vectors have no row-level security, and {has}"
    elif found.wanted and not found.as_source:
        yield "the vectors have lost the policy that follows the source's"
    elif found.wanted and found.parts:
        many = len(found.parts)
        yield f"{counted(many, 'partition')} {noun(many, 'has', 'have')} no row-level security, and {has}"
    elif not found.wanted and (found.as_source or not found.right or found.parts):
        yield f"the vectors have row-level security, and {table} has none"


def _readers(connection: Connection, source: Source, schema: str) -> Iterator[str]:
    """Name the roles whose right to read the source was granted or revoked since."""
    if not source.is_table:
        return
    more: dict[str | None, list[str]] = defaultdict(list)
    less: dict[str | None, list[str]] = defaultdict(list)
    for what, target in (("the vectors", source.vectors), ("the live view", source.live)):
        if exists(connection, target):
            differ = readers(connection, source, target, schema)
            for role in differ.withdrawn:
                more[role].append(what)
            for role in differ.shut_out:
                less[role].append(what)
    table = f"{source.schema}.{source.table}"
    yield from _said(more, f"may read {{}}, and {table} no more")
    yield from _said(less, f"may read {table}, and not {{}}")


def _said(by_role: Mapping[str | None, Sequence[str]], words: str) -> Iterator[str]:
    for role, targets in sorted(by_role.items(), key=lambda item: item[0] or ""):
        yield f"{role or 'PUBLIC'} {words.format(' and '.join(targets))}"


def _by_role(rights: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    by_role: dict[str, list[str]] = defaultdict(list)
    for relation, role in sorted(set(rights)):
        by_role[role].append(relation)
    return by_role


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
