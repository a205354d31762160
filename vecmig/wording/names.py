"""The names of a collection's tags: in full where there is room, else as short as they stay apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from vecmig.model.tag import short_name

#: What a tag is called.
Naming: TypeAlias = Callable[[str], str]


class TagNames:
    """What the tags of one collection are called."""

    def __init__(self, tags: Iterable[str | None]) -> None:
        """Take all tags of a collection that may be named together."""
        self._tags = tuple(dict.fromkeys(tag for tag in tags if tag is not None))
        models = {tag.partition("/dim-")[0] for tag in self._tags}
        self._model = models.pop().partition("@")[0] if len(models) == 1 else None

    def short(self, tag: str) -> str:
        """Return model, dims, and what else tells the tag apart."""
        return short_name(tag, self._tags)

    def shortest(self, tag: str) -> str:
        """Return that without the model, where all tags have the same."""
        short = self.short(tag)
        return short if self._model is None else f"…{short.removeprefix(self._model)}"
