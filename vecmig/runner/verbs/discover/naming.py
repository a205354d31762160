"""What new collections are called, so that a script over a pattern takes in what it is right for, and no other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from vecmig.config.collections import MAX_NAME
from vecmig.inventory.layouts import Layout
from vecmig.inventory.proposing import Proposal
from vecmig.model.adoption import Adoption
from vecmig.model.tag import Tag
from vecmig.script import Script
from vecmig.script.patterns import is_pattern, matching

#: Such names are tried before a number is put behind one that is taken.
_FIRST_NUMBER: Final = 2
#: How often a name is changed so that a script over a pattern that adopts otherwise is not for it.
_TRIES: Final = 100


@dataclass(frozen=True, slots=True)
class TakenIn:
    """How a script over a pattern is for a new collection, too."""

    #: The id of the script that begins its branch.
    revision: str
    pattern: str
    #: Under which it adopts.
    tag: str
    #: Where the last script over a pattern that is for it leads: what the collection asks for.
    leads_to: str


@dataclass(frozen=True, slots=True)
class Name:
    """What a new collection is called."""

    name: str
    #: Where there is a script that takes it in.
    taken_in: TakenIn | None = None
    #: The pattern of a script that could be for it and all that are like it; None where it is one of its kind.
    pattern: str | None = None


class Naming:
    """Names new collections: no two alike, and none that the wrong script would take in."""

    def __init__(
        self,
        taken: Mapping[str, bool],
        scripts: Iterable[Script],
        adoption_of: Callable[[Script], Adoption | None],
    ) -> None:
        """Name nothing yet.

        Args:
            taken: the collections that there are, and whether each has a script of its own.
            scripts: as their files state them.
            adoption_of: what a script adopts, if anything.
        """
        self._taken = set(taken)
        self._alone = [name for name, has_script in taken.items() if has_script]
        self._shared = [script for script in scripts if is_pattern(script.collection)]
        self._adoption_of = adoption_of
        #: What the tables are like that share the beginning of their names.
        self._kinds: dict[str, object] = {}

    def name(self, proposal: Proposal, layout: Layout, wished: str, model: str | None) -> Name:
        """Return the name of a new collection; ``model`` is that of its vectors, where it is known."""
        named = self._named(proposal, layout, wished, model)
        self._taken.add(named.name)
        return named

    def _named(self, proposal: Proposal, layout: Layout, wished: str, model: str | None) -> Name:
        kind = (proposal.dims, proposal.norm, proposal.call, model)
        for wish in _wishes(wished):
            name = self._free(wish)
            over = [one for one in self._over(name) if not one.revision.down_revisions]
            if len(over) == 1 and self._fits(over[0], proposal, model):
                tag, leads_to = over[0].new_tag or "", self._last_over(name, over[0]).new_tag or ""
                return Name(name, TakenIn(over[0].id, over[0].collection or "", tag, leads_to))
            if over:
                continue
            if not layout.many or self._kinds.setdefault(_stem(name), kind) == kind:
                return Name(name, pattern=self.pattern(layout, name))
        return Name(self._free(wished))

    def pattern(self, layout: Layout, name: str) -> str | None:
        """Return the pattern of a script for all tables like that of a collection; None where it stands alone."""
        pattern = f"{_stem(name)}_*"
        return pattern if layout.many and matching(pattern, [name]) and not matching(pattern, self._alone) else None

    def _over(self, name: str) -> list[Script]:
        return [script for script in self._shared if matching(script.collection or "", [name])]

    def _fits(self, script: Script, proposal: Proposal, model: str | None) -> bool:
        """Return whether a script adopts just what is proposed."""
        tag, adoption = Tag.parse(script.new_tag or ""), self._adoption_of(script)
        name, _, version = (model or "").partition("@")
        return (
            script.old_tag is None
            and adoption is not None
            and (adoption.expression, adoption.where) == (proposal.call.expression, proposal.call.where)
            and (tag.dims, tag.norm, tag.chunk) == (proposal.dims, proposal.norm, None)
            and name in ("", tag.model)
            and version in ("", tag.version)
        )

    def _last_over(self, name: str, first: Script) -> Script:
        """Return the last script over a pattern that is for a name, as they follow each other."""
        last, over = first, self._over(name)
        while len(following := [one for one in over if last.id in one.revision.down_revisions]) == 1:
            (last,) = following
        return last

    def _free(self, name: str) -> str:
        free, number = name, _FIRST_NUMBER
        while free in self._taken:
            free = name.encode()[: MAX_NAME - len(f"_{number}")].decode(errors="ignore") + f"_{number}"
            number += 1
        return free


def slug(name: str) -> str:
    """Return a name that a collection, a branch and a file may have."""
    words = re.sub(r"\W+", "_", name).strip("_").encode()[:MAX_NAME].decode(errors="ignore").strip("_")
    return words if words and not words[0].isdigit() else f"c_{words}"[:MAX_NAME].rstrip("_")


def _stem(name: str) -> str:
    return name.partition("_")[0]


def _wishes(name: str) -> Iterator[str]:
    """Yield names to try: as it is wished, then with a number behind the first word."""
    yield name
    stem = _stem(name)
    for number in range(_FIRST_NUMBER, _TRIES):
        yield slug(f"{stem}{number}{name.removeprefix(stem)}")
