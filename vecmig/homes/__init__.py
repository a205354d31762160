"""Where the vectors of a tag live. Whoever needs a vector itself opens the tag's home, however that keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from vecmig.errors import DatabaseError
from vecmig.freshness.stamps import Stamps
from vecmig.homes.adopting import AdoptedPage, any_to_adopt
from vecmig.homes.base import Home, coverage_of
from vecmig.homes.carrying import (
    WantedRecord,
    exported,
    find_wanted,
    gather_wanted,
    known_texts,
    text_hash,
    texts_of,
)
from vecmig.homes.column import ColumnHome
from vecmig.homes.column.catalog import VectorColumn, find_column
from vecmig.homes.column.source_column import drop_index
from vecmig.homes.index import index_name
from vecmig.homes.indexed import opclass_name
from vecmig.homes.partition import PartitionHome
from vecmig.homes.partition.writing import prepare_to_write, reject_records
from vecmig.homes.payload import Payload, payload
from vecmig.homes.placement import move_vectors
from vecmig.homes.search import (
    WHOSE_SESSION,
    Hit,
    Parameters,
    Search,
    allow_preparing,
    blamed,
    fetch,
    least_kept,
    nearest,
    new_search,
)
from vecmig.homes.sharing import (
    Shared,
    Vector,
    chunk_digest,
    find_gathered,
    find_own,
    find_texts,
    forget_gathered,
)
from vecmig.homes.survey import count_offered, misfit, survey
from vecmig.homes.table import create_vectors_table, notes_writers
from vecmig.homes.values import (
    EmbeddedRecord,
    Footprint,
    HomeState,
    IndexBuild,
    IndexLimits,
    IndexState,
    Sampled,
)
from vecmig.homes.vector_file import Header, Page, VectorFile, Writer, checked, header_recipe, new_file, refuse_existing
from vecmig.homes.vectors import send_vectors
from vecmig.homes.widening import drop_policies, drop_published, rewritten_bytes, widen_key
from vecmig.ledger.ledger import Ledger
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source

__all__ = [
    "WHOSE_SESSION",
    "AdoptedPage",
    "EmbeddedRecord",
    "Footprint",
    "Header",
    "Hit",
    "Home",
    "HomeState",
    "IndexBuild",
    "IndexLimits",
    "IndexState",
    "Page",
    "Parameters",
    "Payload",
    "Sampled",
    "Search",
    "Shared",
    "Vector",
    "VectorColumn",
    "VectorFile",
    "WantedRecord",
    "Writer",
    "allow_preparing",
    "any_to_adopt",
    "blamed",
    "checked",
    "chunk_digest",
    "count_offered",
    "coverage_of",
    "create_vectors_table",
    "drop_index",
    "drop_policies",
    "drop_published",
    "exported",
    "fetch",
    "find_column",
    "find_gathered",
    "find_own",
    "find_texts",
    "find_wanted",
    "forget_gathered",
    "gather_wanted",
    "header_recipe",
    "home_over",
    "index_name",
    "indexed",
    "known_texts",
    "least_kept",
    "misfit",
    "move_vectors",
    "nearest",
    "new_file",
    "new_search",
    "notes_writers",
    "opclass_name",
    "open_home",
    "payload",
    "prepare_to_write",
    "refuse_existing",
    "reject_records",
    "rewritten_bytes",
    "send_vectors",
    "survey",
    "text_hash",
    "texts_of",
    "widen_key",
]

_KINDS: Final[Mapping[str, Callable[[Connection, Stamps], Home]]] = {
    home.kind: home for home in (PartitionHome, ColumnHome)
}


def open_home(ledger: Ledger, source: Source, tag: str, *, kind: str | None = None) -> Home:
    """Open the home of a tag, of the kind that ``vecmig.tag.home`` says, over the ledger's session.

    It is read unless ``kind`` is what was read there.

    Raises:
        DatabaseError: this version of vecmig knows no such home.
    """
    kind = ledger.tags.home_of(source.collection.name, tag) if kind is None else kind
    if kind not in _KINDS:
        raise DatabaseError(
            f"The vectors of {tag} live in a home of the kind {kind!r}, which this vecmig does not know.",
            state="Nothing was changed.",
            hint="Run: pip install --upgrade vecmig",
        )
    return home_over(ledger.connection, Stamps(source, ledger.schema, tag))


def home_over(session: Connection, stamps: Stamps) -> Home:
    """Open a home that was open before over another session."""
    return _KINDS[stamps.home](session, stamps)
