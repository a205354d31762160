"""How vectors that were discovered are shown to a person: what is there, what is wrong, and what adopts it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from vecmig.cli import render
from vecmig.inventory.proposing import likely_models
from vecmig.text import count, counted, listed, noun, shown

if TYPE_CHECKING:
    from pathlib import Path

    from vecmig.cli.context import Options
    from vecmig.inventory.vector_tables import Column, Measured, Size
    from vecmig.runner import Discovered, Discovery, Offer

#: So many tables that are alike are shown as one, and so many collections of one table each with its lines.
_ALIKE: Final = 3
_MOST_IN_FULL: Final = 2


def show_discovery(discovery: Discovery) -> None:
    """Print each vector column, those of tables that are alike together."""
    for _, found in groupby(discovery.columns, key=_likeness):
        alike = list(found)
        if len(alike) >= _ALIKE and all(len(one.offers) == 1 and not one.problems for one in alike):
            _show_alike(alike)
        else:
            for one in alike:
                _show(one)
    tables = len({one.column.table.oid for one in discovery.columns})
    columns = counted(len(discovery.columns), "vector column")
    if any(one.model is None and one.revision is None for one in discovery.offers):
        render.line("For MODEL write the model that made the vectors, for PROVIDER who serves it.")
    render.line(f"{columns} in {counted(tables, 'table')}; nothing was changed in the database")


def show_written(options: Options, found: Discovery, written: Sequence[Path]) -> None:
    """Print which files were written, and what to run next."""
    for path in written:
        render.line(f"Wrote {shown(path)}")
    for one in found.columns:
        if one.reason:
            options.note(f"{one.column.object} was passed by: {one.reason}")
    if written:
        guessed = [one.name for one in found.offers if one.proposal.text_guessed and one.revision is None]
        if guessed:
            options.note(f"text: is a guess for {', '.join(guessed)}: see that it is what was embedded")
        joining: dict[str, list[str]] = {}
        for offer in found.offers:
            if offer.taken_in is not None:
                joining.setdefault(offer.taken_in.revision, []).append(offer.name)
        for revision, names in joining.items():
            options.note(f"{listed(names)}: taken in by revision {revision}, which is there already")
        options.note("Next: vecmig plan, then: vecmig upgrade head")
    else:
        there = counted(len(found.offers), "collection has", "collections have")
        options.note(f"Nothing to write: {there} a revision already.")


def _likeness(found: Discovered) -> tuple[object, ...]:
    table, column = found.column.table, found.column.attribute
    offered = [
        (one.proposal.dims, one.proposal.norm, one.configured, one.revision is None, one.taken_in)
        for one in found.offers
    ]
    return table.schema, found.layout.name, column.name, [(c.name, c.type) for c in table.columns], offered


def _show_alike(found: Sequence[Discovered]) -> None:
    first, offers = found[0], [one.offers[0] for one in found]
    prefix = os.path.commonprefix([one.column.table.name for one in found])  # noqa: RUF071  # letter by letter is meant
    render.line(f"{len(found)} tables alike, with {first.column.attribute.quoted}: {first.layout.name}", style="bold")
    _rows(("type", _type(first.column)), *_facts(first))
    rows = []
    for one in found:
        assert one.column.measured is not None, "it has an offer"
        rows.append((f"  {_count(one.column.measured)}", one.offers[0].name, one.column.table.object))
    render.columns(rows, heads=("  rows", "collection", "table"))
    _show_offer(offers[0], "and so for each of them")
    if not offers[0].configured:
        _for_all(offers[0], [f"{prefix}*"] if len(prefix) > 2 else [one.name for one in offers])
    render.line()


def _show(found: Discovered) -> None:
    render.line(f"{found.column.object}: {found.layout.name}", style="bold")
    measured = found.column.measured
    counted_rows = [("rows", _count(measured))] if measured is not None else []
    wrong = [("wrong", what) for what in found.problems]
    _rows(("type", _type(found.column)), *counted_rows, *_facts(found), *wrong)
    if found.reason:
        _rows(("adopt", f"nothing can be proposed: {found.reason}"))
    if len(found.offers) > _MOST_IN_FULL:
        _show_many(found)
    else:
        for one in found.offers:
            _show_offer(one, empty=measured is not None and measured.vectors < measured.rows)
    render.line()


def _rows(*rows: tuple[str, str]) -> None:
    render.columns([(f"  {label:<8}", text) for label, text in rows])


def _type(column: Column) -> str:
    declared = "" if column.attribute.dims or column.attribute.kind == "array" else ", which declares no dims"
    return f"{column.attribute.type}{declared}"


def _count(measured: Measured) -> str:
    about = "" if measured.exact else "about "
    empty = measured.rows - measured.vectors
    lacking = f", of which {about}{count(empty)} {noun(empty, 'has', 'have')} no vector" if empty else ""
    return f"{about}{count(measured.rows)}{lacking}"


def _facts(found: Discovered) -> Iterator[tuple[str, str]]:
    column, measured = found.column, found.column.measured
    if measured is not None and measured.sizes:
        sample = f" (in a sample of {count(measured.sample)})" if measured.sample is not None else ""
        sizes = "; ".join(
            _size(dims, [s for s in measured.sizes if s.dims == dims])
            for dims in dict.fromkeys(size.dims for size in measured.sizes)
        )
        yield "vectors", f"{sizes}{sample}"
    for index in column.indexes:
        metric = index.metric or index.opclass
        yield "index", f"{index.name}: {index.method}, {metric}, {'valid' if index.valid else 'invalid'}"
    if not column.indexes:
        yield "index", "none: a search reads all vectors"
    for reader in column.table.readers:
        yield "read by", reader
    if column.table.row_security:
        yield "rights", "row-level security is on; vectors, live view and search will follow it"
    if column.table.key:
        yield "key", ", ".join(column.table.key)
    if found.layout.text is not None:
        guess = ", which is a guess: correct it where something else was embedded" if found.layout.guessed else ""
        yield "text", f"{found.layout.text}{guess}"
    yield from _model(found)


def _size(dims: int, sizes: Sequence[Size]) -> str:
    lengths = [norm for size in sizes if size.norms for norm in size.norms]
    if not lengths:
        return f"{count(dims)} dims, all zero"
    if all(size.unit for size in sizes if size.norms):
        return f"{count(dims)} dims, unit length"
    usual = max((size for size in sizes if size.norms), key=lambda size: size.vectors).norms
    median = f", median {usual[1]:.4g}" if usual else ""
    least, most = f"{min(lengths):.4g}", f"{max(lengths):.4g}"
    if least == most:
        return f"{count(dims)} dims, length {least}"
    return f"{count(dims)} dims, length {least} to {most}{median}"


def _model(found: Discovered) -> Iterator[tuple[str, str]]:
    measured = found.column.measured
    if measured is None or all(one.revision is not None or one.taken_in is not None for one in found.offers):
        return
    if measured.model_column is not None:
        said = ", ".join(f"{value or 'NULL'} ({count(rows)})" for value, rows in measured.models)
        yield "model", f"{measured.model_column} says {said}"
        return
    dims = list(dict.fromkeys(one.proposal.dims for one in found.offers))
    hints = [f"{count(n)} dims: {' or '.join(likely_models(n))}, among others" for n in dims if likely_models(n)]
    yield "model", "; ".join(["nothing in the table says it", *hints])


def _show_many(found: Discovered) -> None:
    rows = [
        (
            f"  {count(one.proposal.vectors)}",
            count(one.proposal.dims),
            one.name,
            _stands(one) or one.proposal.where or "",
        )
        for one in found.offers
    ]
    render.columns(rows, heads=("  vectors", "dims", "collection", "which"), right=(1,))
    left = [one for one in found.offers if one.revision is None]
    if left:
        _show_offer(left[0], "and so for each of them")
        if len({one.proposal.dims for one in left}) == 1 and len(left) > 1:
            _for_all(left[0], [found.column.table.name])


def _for_all(one: Offer, names: Sequence[str]) -> None:
    words = shlex.split(one.write_command)
    render.line(f"  {'for all':<8}  {shlex.join([*words[:2], *names, *words[3:]])}")


def _stands(one: Offer) -> str:
    if one.revision is not None:
        return f"is in collections.yaml, with revision {one.revision}"
    return "is in collections.yaml, without a revision" if one.configured else ""


def _show_offer(one: Offer, after: str = "", *, empty: bool = False) -> None:
    if one.configured:
        _rows(("there", f"{one.name} {_stands(one)}"))
    if one.revision is not None:
        return
    if not one.configured:
        render.line("  proposed for collections.yaml:")
        for text in one.lines:
            render.line(f"    {text}")
        if after:
            render.line(f"  {after}")
    others = "are missing" if one.proposal.call.in_place else "are embedded by the recipe"
    if one.proposal.call.where:
        _rows(("takes", f"only rows where {one.proposal.call.where}; the others {others}"))
    elif empty:
        _rows(("takes", f"all vectors; the rows without one {others}"))
    if one.taken_in is not None:
        _rows(("taken in", f"by revision {one.taken_in.revision}, which is for {one.taken_in.pattern}"))
    # each on one line, so that it can be copied in one piece
    render.line(f"  {'adopt':<8}  {one.write_command}")
    render.line(f"  {'then':<8}  vecmig upgrade head")
    first = "" if one.configured else "add the lines above"
    render.line(f"  {'by hand':<8}  {', then: '.join(filter(None, [first, one.revision_command]))}")
    if not one.taken_in and not one.proposal.must_copy and not one.proposal.call.in_place and one.proposal.index:
        _rows(("or", f"--in-place: nothing is copied, and {one.proposal.index} goes on serving"))
