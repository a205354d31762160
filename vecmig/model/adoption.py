"""Adoption: how a tag takes over the vectors that a team has already, in a column of the source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

HomeKind = Literal["partition", "column"]
#: What a retire does with the user's own column.
RetiredColumn = Literal["leave", "clear", "drop"]

HOMES: Final = ("partition", "column")
RETIRED: Final = ("leave", "clear", "drop")
#: What is written down beside what the revision says.
_BESIDE: Final = ("vector", "condition", "column", "declared", "plain", "numbers")


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a revision says about the vectors that are there already."""

    #: SQL over the source that gives a vector, a halfvec, an array of floats, or pgvector's text form.
    expression: str
    #: The condition on the rows whose vectors are adopted; None for all.
    where: str | None = None
    #: Where the vectors are from then on: copied to the tag's partition, or in the source's own column.
    home: HomeKind = "partition"
    #: Whether records without such a vector are embedded by the recipe.
    fill: bool = True
    #: What a retire does with the column, where it is the home.
    retire: RetiredColumn = "leave"

    @property
    def in_place(self) -> bool:
        """Whether the vectors stay in the source's column."""
        return self.home == "column"


@dataclass(frozen=True, slots=True)
class AdoptedTag:
    """A tag of a collection that has adopted vectors."""

    tag: str
    adoption: Adoption
    #: ``expression`` and ``where`` as PostgreSQL understood them: with the schema of each function and type.
    vector: str
    condition: str | None
    #: The column that is the home, and whether it is declared with the tag's dims; None where the vectors are copied.
    column: str | None = None
    declared: bool = False
    #: Whether it is a column of vectors, with no condition, so that none of its values can be something else.
    plain: bool = False
    #: The numbers of the columns that both expressions read, by the names that they have there.
    numbers: tuple[tuple[str, int], ...] = ()
    #: Whether it goes on to take over what the application writes; one that was retired does not.
    follows: bool = True

    def to_mapping(self) -> dict[str, Any]:
        """Return what is written down of it beside the tag."""
        beside = {name: getattr(self, name) for name in _BESIDE}
        return asdict(self.adoption) | beside

    @classmethod
    def from_mapping(cls, tag: str, data: Mapping[str, Any], home: HomeKind, *, follows: bool) -> AdoptedTag:
        """Read what ``to_mapping`` wrote; what a later version added is left out."""
        said = {name: data[name] for name in Adoption.__slots__ if name in data} | {"home": home}
        beside = {name: data[name] for name in _BESIDE if name in data}
        beside["numbers"] = tuple((name, number) for name, number in beside.get("numbers", ()))
        return cls(tag, Adoption(**said), follows=follows, **beside)

    def renamed(self, names: Mapping[int, str]) -> AdoptedTag:
        """Return it with the names that its columns have now; ``names`` has those of the source, by their numbers."""
        called = {old: names[number] for old, number in self.numbers if names.get(number, old) != old}
        if not called:
            return self
        words = "|".join(f"{re.escape(_quoted(old))}|{re.escape(old)}" for old in called)
        pattern = re.compile(rf'(?<![\w.":])(?:{words})(?![\w".(])')

        def replaced(text: str) -> str:
            return pattern.sub(lambda match: _quoted(called[match[0].strip('"').replace('""', '"')]), text)

        return replace(
            self,
            vector=replaced(self.vector),
            condition=None if self.condition is None else replaced(self.condition),
            column=called.get(self.column or "", self.column),
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
