"""Find the vectors that a database has already outside of vecmig, and what could adopt them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from vecmig.config import Config
from vecmig.errors import ScriptError, UsageError
from vecmig.inventory import discovering, proposing
from vecmig.inventory.layouts import Layout, layout_of
from vecmig.inventory.proposing import Proposal
from vecmig.inventory.vector_tables import Column, Table
from vecmig.ledger.belongings import own_relations
from vecmig.model.adoption import Adoption
from vecmig.model.collection import Collection
from vecmig.postgres.pgvector import find_pgvector
from vecmig.postgres.sessions import Connection
from vecmig.runner.project import Project
from vecmig.runner.steps import adoption_of
from vecmig.runner.verbs.discover.naming import Naming, slug
from vecmig.runner.verbs.discover.offers import Offer, offer
from vecmig.script import Script, ScriptDirectory
from vecmig.script.project import is_example
from vecmig.source.relations import find_relation
from vecmig.text import nearest

__all__ = ["Discovered", "Discovery", "Offer", "discover"]


@dataclass(frozen=True, slots=True)
class Discovered:
    """One vector column, what is wrong with it, and what could adopt it."""

    column: Column
    layout: Layout
    problems: tuple[str, ...]
    #: Why nothing is offered; empty where something is.
    reason: str
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Discovery:
    """The vectors of a database that are not vecmig's."""

    database: str
    measured_at: datetime
    columns: tuple[Discovered, ...]

    @property
    def offers(self) -> tuple[Offer, ...]:
        """All that is offered."""
        return tuple(one for found in self.columns for one in found.offers)

    def only(self, names: Sequence[str]) -> Discovery:
        """Return what of it is called so: all of a table that is named, else the collections that are.

        Raises:
            UsageError: nothing is called like one of the names.
        """
        tables, offered = [found.column.table for found in self.columns], [one.name for one in self.offers]
        for name in names:
            if not any(_is_called(table, name) for table in tables) and not any(fnmatchcase(n, name) for n in offered):
                close = nearest(name, [*(table.name for table in tables), *offered])
                raise UsageError(
                    f"{name!r} is neither a table with vectors nor a collection that could adopt some.",
                    hint=f"Did you mean {close}?" if close else "To see what there is, run: vecmig discover",
                )
        chosen = []
        for found in self.columns:
            named = any(_is_called(found.column.table, name) for name in names)
            offers = tuple(one for one in found.offers if named or any(fnmatchcase(one.name, n) for n in names))
            if named or offers:
                chosen.append(replace(found, offers=offers))
        return replace(self, columns=tuple(chosen))

    def in_place(self) -> Discovery:
        """Return the same with vectors that stay in their columns.

        Raises:
            UsageError: some cannot.
        """
        for one in self.offers:
            if one.proposal.must_copy:
                raise UsageError(
                    f"The vectors of {one.name} cannot be adopted in place: {one.proposal.must_copy}.",
                    hint="Leave --in-place out to copy them, or name the tables that it is about.",
                )
        columns = (replace(each, offers=tuple(one.in_place() for one in each.offers)) for each in self.columns)
        return replace(self, columns=tuple(columns))


def discover(
    config: Config,
    names: Sequence[str] = (),
    *,
    model: str | None = None,
    provider: str | None = None,
    in_place: bool = False,
) -> Discovery:
    """Read all vector columns of tables that are not vecmig's. Nothing is written, in the database or the project.

    Args:
        config: the project.
        names: tables, with their schema or without, and collections that are offered; ``*`` stands for any letters.
            Empty for all.
        model: which model made the vectors, with ``@version`` or without.
        provider: who serves that model.
        in_place: whether the vectors are to stay in their columns.

    Raises:
        UsageError: nothing is called like one of ``names``, or vectors cannot stay where they are.
    """
    project = Project(config)
    with project.database.session() as connection:
        pgvector = find_pgvector(connection)
        own = own_relations(lambda query: connection.execute(query.encode())).relations
        tables = discovering.tables(
            connection, pgvector, lambda schema, name: (schema, name) in own, project.database.schema
        )
        named = {name: [table for table in tables if _is_called(table, name)] for name in names}
        if all(named.values()) and names:
            tables = [table for table in tables if any(table in found for found in named.values())]
        columns = [column for table in tables for column in discovering.vector_columns(connection, table, pgvector)]
        known = _Known.of(project, connection)
    found = tuple(_Offering(known, known.naming(project), columns, model, provider).all())
    discovery = Discovery(project.database.safe_url, datetime.now(UTC), found)
    discovery = discovery.only(names) if names else discovery
    return discovery.in_place() if in_place else discovery


def _is_called(table: Table, name: str) -> bool:
    return any(fnmatchcase(one, name) for one in (table.name, f"{table.schema}.{table.name}", table.object))


@dataclass(frozen=True, slots=True)
class _Known:
    """What the project has already."""

    collections: Mapping[str, Collection]
    #: The number of each collection's source, of those that are there.
    sources: Mapping[str, int]
    scripts: ScriptDirectory | None

    @classmethod
    def of(cls, project: Project, connection: Connection) -> _Known:
        path = project.config.collections_path
        is_new = not path.exists() or is_example(path, project.config.template)
        collections = {} if is_new else project.collections.collections
        found = {name: find_relation(connection, one.source) for name, one in collections.items()}
        scripts = None
        # a project that has none yet
        with suppress(ScriptError):
            scripts = project.scripts
            _ = scripts.scripts
        return cls(collections, {name: one.oid for name, one in found.items() if one is not None}, scripts)

    def newest(self, name: str) -> Script | None:
        """Return the newest revision of a collection, if it has any."""
        return self.scripts.newest(name, self.scripts.map.heads) if self.scripts else None

    def naming(self, project: Project) -> Naming:
        """Return what names new collections."""

        def adoption(script: Script) -> Adoption | None:
            adopts = adoption_of(project, script)
            return None if adopts is None else adopts.adoption

        alone: dict[str, bool] = dict.fromkeys(self.collections, False)
        files: tuple[Script, ...] = ()
        # a script that does not load is told of where a collection asks for its revision
        with suppress(ScriptError):
            newest = {name: self.newest(name) for name in self.collections}
            alone = {name: script is not None and script.shared is None for name, script in newest.items()}
            files = tuple(self.scripts.files.values()) if self.scripts else ()
        return Naming(alone, files, adoption)

    def has(self, proposal: Proposal, column: Column, name: str | None) -> str | None:
        """Return the collection that adopts these vectors already; with a name, none but that can be it."""
        part = proposal.where.partition(" = ")[2] if proposal.where else ""
        for one, collection in self.collections.items():
            if self.sources.get(one) == column.table.oid and name in (None, one) and part in (collection.where or ""):
                return one
        return None


class _Offering:
    """Makes an offer of each proposal, and gives each a name of its own."""

    def __init__(
        self, known: _Known, naming: Naming, columns: Sequence[Column], model: str | None, provider: str | None
    ) -> None:
        self._known = known
        self._columns = columns
        self._model = model
        self._provider = provider
        self._naming = naming

    def all(self) -> Iterator[Discovered]:
        """Yield what is found of each column."""
        for column in self._columns:
            lengths = column.measured.text_lengths if column.measured else {}
            layout = layout_of(column.table, column.attribute.name, lengths)
            model = self._model.partition("@")[0] if self._model else None
            offers = tuple(self._offer(one, column, layout) for one in proposing.proposals(column, layout, model))
            reason = proposing.no_proposal(column, layout)
            if not offers and not reason:
                reason = "HNSW indexes at most 4,000 dims, so no search over them as a tag would be fast"
            yield Discovered(column, layout, tuple(proposing.problems(column)), reason, offers)

    def _offer(self, proposal: Proposal, column: Column, layout: Layout) -> Offer:
        several = sum(one.table.oid == column.table.oid for one in self._columns) > 1
        name = slug(f"{proposal.collection}_{column.attribute.name}" if several else proposal.collection)
        there = self._known.has(proposal, column, name if several else None)
        if there is None:
            named = self._naming.name(proposal, layout, name, self._model or proposal.model)
            proposal = replace(proposal, collection=named.name)
            if named.taken_in is not None:
                return Offer(proposal, named.taken_in.tag, self._provider, taken_in=named.taken_in)
            return replace(offer(proposal, model=self._model, provider=self._provider), pattern=named.pattern)
        made = offer(replace(proposal, collection=there), model=self._model, provider=self._provider)
        tag = self._known.collections[there].tag
        newest = self._known.newest(there)
        pattern = self._naming.pattern(layout, there)
        return replace(
            made, tag=tag or made.tag, configured=True, revision=newest.id if newest else None, pattern=pattern
        )
