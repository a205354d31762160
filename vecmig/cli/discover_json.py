"""Vectors that were discovered, as ``--json`` prints them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecmig.runner import Discovered, Discovery, Offer


def discovery_document(found: Discovery, written: Sequence[Path]) -> dict[str, Any]:
    """Return all that was found, and the files that were written."""
    return {
        "database": found.database,
        "measured_at": found.measured_at,
        "columns": [_column(one) for one in found.columns],
        "written": list(written),
    }


def _column(found: Discovered) -> dict[str, Any]:
    column, measured = found.column, found.column.measured
    document: dict[str, Any] = {
        "table": column.table.object,
        "column": column.attribute.name,
        "type": column.attribute.type,
        "layout": found.layout.name,
        "dims_declared": column.attribute.dims,
        "key": column.table.key,
        "text": found.layout.text,
        "text_is_guess": found.layout.guessed,
        "indexes": [
            {"name": one.name, "method": one.method, "metric": one.metric, "opclass": one.opclass, "valid": one.valid}
            for one in column.indexes
        ],
        "read_by": column.table.readers,
        "unread": column.unread or None,
        "problems": found.problems,
        "no_proposal": found.reason or None,
        "proposals": [_proposal(one) for one in found.offers],
    }
    if measured is not None:
        document["rows"] = measured.rows
        document["rows_exact"] = measured.exact
        document["vectors"] = measured.vectors
        document["nulls"] = measured.rows - measured.vectors
        document["sample"] = measured.sample
        document["sizes"] = [
            {
                "part": size.part,
                "model": size.model,
                "dims": size.dims,
                "vectors": size.vectors,
                "zero": size.zero,
                "not_finite": size.infinite,
                "norms": dict(zip(("min", "median", "max"), size.norms, strict=True)) if size.norms else None,
                "unit": size.unit,
            }
            for size in measured.sizes
        ]
        document["padding"] = [{"dims": dims, "vectors": vectors} for dims, vectors in measured.padding]
        document["model_column"] = measured.model_column
        document["models"] = [{"value": value, "rows": rows} for value, rows in measured.models]
        document["parts"] = [{"value": one.value, "name": one.name, "rows": one.rows} for one in measured.parts]
    return document


def _proposal(one: Offer) -> dict[str, Any]:
    proposal = one.proposal
    return {
        "collection": one.name,
        "source": proposal.source,
        "key": proposal.key,
        "text": proposal.text,
        "text_is_guess": proposal.text_guessed,
        "where": proposal.where,
        "storage": proposal.storage,
        "metric": proposal.metric,
        "dims": proposal.dims,
        "norm": proposal.norm,
        "model": one.model,
        "provider": one.provider,
        "tag": one.tag if one.model is not None else None,
        "vectors": proposal.vectors,
        "adopt": proposal.call.expression,
        "adopt_where": proposal.call.where,
        "in_place": proposal.call.in_place,
        "must_copy": proposal.must_copy or None,
        "index": proposal.index,
        "collections_yaml": "\n".join(one.lines),
        "write": one.write_command,
        "revision_command": one.revision_command,
        "configured": one.configured,
        "revision": one.revision,
        "pattern": one.taken_in.pattern if one.taken_in else one.pattern,
        "taken_in_by": one.taken_in.revision if one.taken_in else None,
    }
