"""What is wrong with vectors that a team has already, and the collections and first revisions that would adopt them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from vecmig.inventory.layouts import Layout
from vecmig.inventory.vector_tables import Column, Part, Size
from vecmig.model.collection import VECTOR_COLUMNS, Metric, Storage
from vecmig.model.index import INDEX_DIMS
from vecmig.model.tag import NORM_TOLERANCE, Norm
from vecmig.script.adopt_call import AdoptCall
from vecmig.text import count, counted, noun

_What = TypeVar("_What")
_VECTOR_DIMS: Final = INDEX_DIMS["vector"]
#: Models that give vectors of so many dims by themselves: a hint, and no more.
_LIKELY: Final = {
    64: ("wordllama",),
    256: ("wordllama",),
    384: ("all-MiniLM-L6-v2", "bge-small-en-v1.5"),
    512: ("bge-small-zh-v1.5", "text-embedding-3-small with dimensions: 512"),
    768: ("nomic-embed-text-v1.5", "bge-base-en-v1.5", "all-mpnet-base-v2"),
    1024: ("bge-m3", "mxbai-embed-large-v1", "voyage-3"),
    1536: ("text-embedding-3-small", "text-embedding-ada-002"),
    2560: ("Qwen3-Embedding-4B",),
    3072: ("text-embedding-3-large", "gemini-embedding-001"),
    4096: ("Qwen3-Embedding-8B",),
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """A collection that could be, and how its first tag would get its vectors."""

    collection: str
    #: As collections.yaml has it.
    source: str
    key: tuple[str, ...]
    text: str
    text_guessed: bool
    where: str | None
    storage: Storage
    metric: Metric
    dims: int
    norm: Norm
    #: What the table itself says of the model; None where it says nothing.
    model: str | None
    call: AdoptCall
    #: How many vectors it would take over, as far as is known.
    vectors: int
    #: Why the vectors cannot stay in their column; empty where they can.
    must_copy: str = ""
    #: The index that would go on serving if they did.
    index: str | None = None

    def tag(self, model: str) -> str:
        """Return the tag for vectors of a model, which is named with its version or without."""
        return f"{model if '@' in model else f'{model}@1'}/dim-{self.dims}/chunk-none/norm-{self.norm}"


def likely_models(dims: int) -> tuple[str, ...]:
    """Name models that give vectors of so many dims; none where none is well known."""
    return _LIKELY.get(dims, ())


def no_proposal(column: Column, layout: Layout) -> str:
    """Say why nothing can be proposed for a column; empty where something can."""
    measured, table = column.measured, column.table
    if measured is None:
        return f"its rows could not be read: {column.unread}"
    if not measured.sizes:
        return "it has no vectors" if measured.sample is None else "the rows of the sample have no vectors"
    if not table.key:
        return "the table has no primary key, and no other unique index over columns that are NOT NULL"
    reserved = [name for name in table.key if name in VECTOR_COLUMNS]
    if reserved:
        return f"its key has a column {reserved[0]}, as vectors have: a view that calls it otherwise can be a source"
    if layout.unreadable:
        return f"{layout.unreadable}, so a model could never be given the texts"
    if layout.text is None:
        return "the table has no column of text; a collection needs SQL that gives the text of each row"
    return ""


def problems(column: Column) -> Iterator[str]:
    """Yield what is wrong with the vectors of a column, with the condition or the expression that puts it right."""
    measured = column.measured
    if measured is None:
        return
    zero, infinite = (sum(getattr(size, name) for size in measured.sizes) for name in ("zero", "infinite"))
    if zero:
        yield f"{counted(zero, 'vector is', 'vectors are')} zero in each dimension: cosine search never finds these"
    if infinite:
        yield f"{counted(infinite, 'vector has', 'vectors have')} NaN or infinity in a dimension"
    if not measured.parts:
        yield from _mixed(column, measured.sizes)
    for part in measured.parts:
        yield from _of_part(column, part)
    yield from _short(measured.sizes)
    if measured.padding:
        yield from _padded(column, measured.padding, measured.sizes[0].dims)
    for index in column.indexes:
        if not index.valid:
            yield f"the index {index.name} is invalid: its build was cut short, and no query uses it"


def _of_part(column: Column, part: Part) -> Iterator[str]:
    measured = column.measured
    assert measured is not None, "its parts were measured"
    sizes = [size for size in measured.sizes if size.part == part.value]
    yield from (f"{part.name}: {what}" for what in _mixed(column, sizes))
    if not sizes and part.value is not None and not measured.exact:
        yield f"{part.name}: no row of it is in the sample, so nothing is proposed for it"
    if part.value is None and part.rows:
        yield f"{counted(part.rows, 'row')} {noun(part.rows, 'belongs', 'belong')} to no collection"


def _short(sizes: Sequence[Size]) -> Iterator[str]:
    norms = [size.norms for size in sizes if size.norms is not None]
    if norms and max(most for *_, most in norms) < 1 - NORM_TOLERANCE:
        yield (
            f"all vectors are shorter than 1, from {min(least for least, *_ in norms):.4g} to "
            f"{max(most for *_, most in norms):.4g}: they were cut, or their model gives no unit vectors"
        )


def _mixed(column: Column, sizes: Sequence[Size]) -> Iterator[str]:
    measured = column.measured
    assert measured is not None, "its sizes were measured"
    dims = _totals((size.dims, size.vectors) for size in sizes)
    if len(dims) > 1:
        listed = "; ".join(f"{count(n)} of {count(d)} dims, {_dims_condition(column, d)}" for d, n in dims.items())
        yield f"vectors of {len(dims)} sizes in one column: {listed}"
    models = _totals((size.model, size.vectors) for size in sizes)
    if len(models) > 1:
        listed = "; ".join(f"{count(n)} where {_model_condition(column, model)}" for model, n in models.items())
        yield f"vectors of {len(models)} models in one column: {listed}"


def _padded(column: Column, padding: Sequence[tuple[int, int]], dims: int) -> Iterator[str]:
    if len(padding) == 1:
        ((used, _),) = padding
        yield (
            f"all vectors are padded: of {count(dims)} dims only the first {count(used)} are not zero; "
            f"{_prefix(column, used)} is the vector without them"
        )
        return
    listed = "; ".join(
        f"{count(n)} of {count(used)} dims, {_padding_condition(column, padding, at, dims)}"
        for at, (used, n) in enumerate(padding)
    )
    yield f"vectors of {len(padding)} sizes, so of {len(padding)} models, are padded to {count(dims)} dims: {listed}"


def proposals(column: Column, layout: Layout, model: str | None = None) -> list[Proposal]:
    """Return the collections that would adopt a column's vectors: one, or one for each part of the table.

    Where vectors of several models or sizes stand in it, those of ``model`` are adopted, or else those that are most.
    """
    measured = column.measured
    if measured is None or no_proposal(column, layout):
        return []
    parts: Sequence[Part | None] = [part for part in measured.parts if part.value is not None] or [None]
    scale = measured.vectors / max(sum(size.vectors for size in measured.sizes), 1)
    found = []
    for part in parts:
        sizes = [size for size in measured.sizes if part is None or size.part == part.value]
        # what HNSW cannot index in any type cannot be a tag
        without_padding = max((used for used, _ in measured.padding), default=None)
        fitting = [size for size in sizes if (without_padding or size.dims) <= INDEX_DIMS["halfvec"]]
        if fitting:
            chosen = _choose(column, fitting, model)
            found.append(_proposal(column, layout, part, chosen, round(chosen.vectors * scale)))
    return found


@dataclass(frozen=True, slots=True)
class _Choice:
    """Vectors of one model and size, among others."""

    model: str | None
    #: Without padding.
    dims: int
    unit: bool
    vectors: int
    expression: str
    #: What tells them from the others; None where there are no others.
    where: str | None


def _choose(column: Column, sizes: Sequence[Size], model: str | None) -> _Choice:
    """Choose the vectors of a model, or else those that are most."""
    measured = column.measured
    assert measured is not None, "its sizes were measured"
    of_model = [size for size in sizes if model is not None and size.model == model] or list(sizes)
    chosen_model = next(iter(_totals((size.model, size.vectors) for size in of_model)))
    of_model = [size for size in of_model if size.model == chosen_model]
    dims = next(iter(_totals((size.dims, size.vectors) for size in of_model)))
    chosen = [size for size in of_model if size.dims == dims]
    conditions = []
    if len({size.model for size in sizes}) > 1:
        conditions.append(_model_condition(column, chosen_model))
    if len({size.dims for size in of_model}) > 1:
        conditions.append(_dims_condition(column, dims))
    expression, used, padding = column.attribute.quoted, dims, measured.padding
    if padding and dims == measured.sizes[0].dims:
        at = max(range(len(padding)), key=lambda n: padding[n][1])
        used, expression = padding[at][0], _prefix(column, padding[at][0])
        if len(padding) > 1:
            conditions.append(_padding_condition(column, padding, at, dims))
    return _Choice(
        model=chosen_model,
        dims=used,
        unit=all(size.unit for size in chosen if size.norms),
        vectors=sum(size.vectors for size in chosen),
        expression=expression,
        where=" AND ".join(conditions) or None,
    )


def _proposal(column: Column, layout: Layout, part: Part | None, chosen: _Choice, vectors: int) -> Proposal:
    assert layout.text is not None, "there is a proposal only with a text"
    storage: Storage = "vector" if column.attribute.kind != "halfvec" and chosen.dims <= _VECTOR_DIMS else "halfvec"
    indexes = [index for index in column.indexes if index.valid and index.metric is not None]
    serving = next((index for index in indexes if index.opclass.startswith(f"{storage}_")), None)
    metric = next((index.metric for index in [serving, *indexes] if index and index.metric), None)
    must_copy, kind = "", column.attribute.kind
    if kind == "array":
        must_copy = f"{column.attribute.type} is no type that an index of pgvector's takes"
    elif chosen.expression != column.attribute.quoted:
        must_copy = f"{chosen.expression} is not what stands in the column"
    elif column.table.kind == "m":
        must_copy = f"{column.table.object} is a materialized view, and nothing tells of its changes"
    divided = part is not None and part.value is not None and layout.divided_by is not None
    return Proposal(
        collection=part.name if divided and part else layout.collection,
        source=column.table.object,
        key=column.table.key,
        text=layout.text,
        text_guessed=layout.guessed,
        where=f"{layout.divided_by} = {_literal(part.value or '')}" if divided and part else None,
        storage=storage,
        metric=metric or "cosine",
        dims=chosen.dims,
        norm="l2" if chosen.unit else "none",
        model=chosen.model,
        call=AdoptCall(chosen.expression, chosen.where),
        vectors=vectors,
        must_copy=must_copy,
        index=serving.name if serving else None,
    )


def _totals(pairs: Iterator[tuple[_What, int]]) -> dict[_What, int]:
    """Add up by the first of each pair; the largest sum first."""
    sums: dict[_What, int] = {}
    for what, number in pairs:
        sums[what] = sums.get(what, 0) + number
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


# SQL that tells vectors apart; it names the schema of all that is not PostgreSQL's own ------------------------------


def _dims_condition(column: Column, dims: int) -> str:
    if column.attribute.kind == "array":
        return f"array_length({column.attribute.quoted}, 1) = {dims}"
    return f"{column.pgvector}.vector_dims({column.attribute.quoted}) = {dims}"


def _model_condition(column: Column, model: str | None) -> str:
    name = column.measured.model_column if column.measured else None
    return f"{name} IS NULL" if model is None else f"{name} = {_literal(model)}"


def _prefix(column: Column, dims: int) -> str:
    return f"{column.pgvector}.subvector({column.attribute.quoted}, 1, {dims})"


def _padding_condition(column: Column, padding: Sequence[tuple[int, int]], at: int, dims: int) -> str:
    """Return what holds of the vectors that end where the padding at one place begins."""
    norm = "vector_norm" if column.attribute.kind == "vector" else "l2_norm"

    def is_zero(after: int, operator: str) -> str:
        rest = f"{column.pgvector}.subvector({column.attribute.quoted}, {after + 1}, {dims - after})"
        return f"{column.pgvector}.{norm}({rest}) {operator} 0"

    used = padding[at][0]
    parts = [is_zero(used, "=")] if at < len(padding) - 1 else []
    if at > 0:
        parts.append(is_zero(padding[at - 1][0], "<>"))
    return " AND ".join(parts)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
