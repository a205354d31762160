"""Index: how the vectors of a tag are indexed and searched, a choice of the tag's own that changes no vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, Self

Method = Literal["hnsw"]
IndexType = Literal["vector", "halfvec", "bit"]

METHODS: Final = ("hnsw",)
#: Most dimensions that an index takes, by what it has of a vector.
INDEX_DIMS: Final[Mapping[str, int]] = {"vector": 2_000, "halfvec": 4_000, "bit": 64_000}
#: What each number may be.
_RANGES: Final = {"m": (2, 100), "ef_construction": (4, 1000), "ef_search": (1, 1000), "rerank": (1, 1000)}
#: m of an index where neither the tag nor the collection says.
_USUAL_M: Final = 16
#: How many times k candidates are ranked again by their exact distance where nothing is said: with the first bit of
#: each dimension, recall@10 is 0.98 with 40 candidates and 1.000 with 100 (30,000 clustered vectors of 1,536 dims).
_RERANK: Final = {"halfvec": 2, "bit": 10}


@dataclass(frozen=True, slots=True)
class Index:
    """How a tag's vectors are indexed and searched. What is None is as the collection has it."""

    method: Method = "hnsw"
    #: What the index has of a vector: its numbers in full or half precision, or their signs; None for what is stored.
    type: IndexType | None = None
    m: int | None = None
    ef_construction: int | None = None
    #: How many candidates HNSW keeps at least while it searches; None for what the session says.
    ef_search: int | None = None
    #: How many times k candidates of an index of bits are ranked again by their exact distance.
    rerank: int | None = None

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Self:
        """Read what ``to_mapping`` wrote, or sound data of collections.yaml; what a later version added is left out."""
        return cls(**{field.name: data[field.name] for field in fields(cls) if field.name in data})

    def to_mapping(self) -> dict[str, Any]:
        """Return what it says, as plain data."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value not in (None, "hnsw")}

    @property
    def built(self) -> Self:
        """Only what it is built by: two indexes that agree in this are one."""
        return replace(self, ef_search=None, rerank=None)

    def of(self, storage: str) -> str:
        """Return what the index has of vectors that are stored so: vector, halfvec or bit."""
        return self.type or storage

    def words(self, storage: str) -> str:
        """Say what the index has of vectors that are stored so, and with which settings of its own."""
        names = ("m", "ef_construction", "ef_search", "rerank")
        return ", ".join(
            [self.of(storage), *(f"{name} {v}" for name in names if (v := getattr(self, name)) is not None)]
        )

    def candidates(self, storage: str) -> int | None:
        """Return how many times k candidates are ranked again by their exact distance; None where the index has it."""
        kind = self.of(storage)
        return None if kind == storage else self.rerank or _RERANK[kind]


def choice_problems(data: Mapping[str, Any], dims: int) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the fields of an index of vectors with so many dims: (field, what)."""
    for name, choices in (("method", METHODS), ("type", tuple(INDEX_DIMS))):
        if name in data and data[name] not in choices:
            yield name, f"{data[name]!r} is not one of {', '.join(choices)}"
    sound = {}
    for name, (low, high) in _RANGES.items():
        value = data.get(name, low)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            yield name, f"{value!r}; a whole number from {low} to {high} is needed"
        elif name in data:
            sound[name] = value
    least = 2 * sound.get("m", _USUAL_M)
    if sound.get("ef_construction", least) < least:
        yield "ef_construction", f"it must be at least twice m, so {least} or more"
    kind: Any = data.get("type")
    if "rerank" in data and kind != "bit":
        yield "rerank", "only an index of type bit has it: the others have the distance itself"
    if kind in INDEX_DIMS and dims > INDEX_DIMS[kind]:
        yield "type", f"an index has at most {INDEX_DIMS[kind]:,} dimensions of {kind}, and the tag has {dims:,}"


def index_problem(storage: str, dims: int, index: Index | None = None) -> str | None:
    """Say why vectors of ``dims`` dimensions in ``storage`` cannot be indexed so, and the way out; None if they can."""
    kind = (index or Index()).of(storage)
    if kind == "vector" != storage:
        return f"its index is of type vector, and the collection stores {storage}: use type: halfvec or bit"
    if dims <= INDEX_DIMS[kind]:
        return None
    smaller = "a smaller dims, if the model has an option for it (dimensions of text-embedding-3)"
    ways = [f"index: {{type: {other}}} beside its recipe" for other in ("halfvec", "bit") if dims <= INDEX_DIMS[other]]
    if kind == "vector" and dims <= INDEX_DIMS["halfvec"]:
        ways.insert(0, "storage: halfvec")
    return (
        f"HNSW indexes at most {INDEX_DIMS[kind]:,} dimensions of {kind}, and the tag has {dims:,}: use "
        f"{', '.join([*ways, 'or ' + smaller])}"
    )
