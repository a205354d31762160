"""Tag: the name on every vector, and its grammar."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from vecmig.errors import TagError

Norm = Literal["l2", "none"]

#: How far a vector's length may be from 1 under norm-l2: half precision, in storage or on a server, keeps about three
#: decimal digits.
NORM_TOLERANCE: Final = 0.01
#: pgvector's own limit for a value of type vector, and for halfvec.
MAX_DIMS: Final = 16_000
MAX_TAG_LENGTH: Final = 200

_TAG_EXAMPLE: Final = "text-embedding-3-small@1/dim-1536/chunk-none/norm-l2"
_TAG = re.compile(r"(?P<model>[^\s@]+)@(?P<version>[^\s@/]+)/(?P<parts>[^\s@]+)")
_LABEL = re.compile(r"[a-z][a-z0-9]*-[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Tag:
    """The name on every vector: which model made it, in which version, with which parameters.

    ``str(tag)`` is the canonical form, the only one that is stored or compared:
    ``model@version/dim-N/chunk-none|chunk-N/norm-l2|norm-none`` and then any labels in alphabetical order.
    """

    model: str
    version: str
    dims: int
    #: Largest size of a chunk, in the recipe's unit; None for ``chunk-none``.
    chunk: int | None
    norm: Norm
    #: Further parts of the form ``word-value``, sorted; they tell apart recipes that differ in, say, a prompt.
    labels: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Tag:
        """Read a tag whose parts may stand in any order.

        Raises:
            TagError: it does not follow the grammar; the message says which part and what to write.
        """
        match = _TAG.fullmatch(text)
        if match is None:
            raise TagError(f"{text!r} is not a tag.", hint=f"A tag reads model@version/part/part…, like {_TAG_EXAMPLE}")
        if len(text) > MAX_TAG_LENGTH:
            raise TagError(f"The tag {text[:40]!r}… has {len(text)} characters; at most {MAX_TAG_LENGTH} are allowed.")
        parts = _Parts(text)
        for part in match["parts"].split("/"):
            parts.add(part)
        return cls(match["model"], match["version"], *parts.finish())

    def __str__(self) -> str:
        chunk = "none" if self.chunk is None else str(self.chunk)
        parts = (f"dim-{self.dims}", f"chunk-{chunk}", f"norm-{self.norm}", *self.labels)
        return f"{self.model}@{self.version}/{'/'.join(parts)}"


def short_name(tag: str, among: Iterable[str] = ()) -> str:
    """Return model and dims of a tag, and of its other parts those without which one ``among`` others has that name.

    What is not a tag is returned as it is.
    """
    try:
        own = _named_parts(tag)
        others = [_named_parts(other) for other in among if other != tag]
    except TagError:
        return tag
    kept = {"model", "dim"}
    for name in own:
        alike = [other for other in others if all(other[part] == own[part] for part in kept)]
        if any(other[name] != own[name] for other in alike):
            kept.add(name)
    return own["model"] + "".join(part for name, part in own.items() if name in kept - {"model"})


def _named_parts(text: str) -> dict[str, str]:
    tag = Tag.parse(text)
    dims, chunk, norm, *labels = str(tag).removeprefix(f"{tag.model}@{tag.version}/").split("/")
    parts = {"model": tag.model, "version": f"@{tag.version}", "dim": f"/{dims}", "chunk": f"/{chunk}"}
    return parts | {"norm": f"/{norm}", "labels": "".join(f"/{label}" for label in labels)}


class _Parts:
    """Collects the parts of one tag and complains about each in the words of its author."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._named: dict[str, str] = {}
        self._labels: set[str] = set()

    def add(self, part: str) -> None:
        word, _, value = part.partition("-")
        if word in ("dim", "chunk", "norm"):
            if word in self._named:
                raise self._error(f"says {word} twice")
            self._named[word] = value
        elif _LABEL.fullmatch(part) is None:
            raise self._error(f"has a part {part!r} that is not of the form word-value")
        elif part in self._labels:
            raise self._error(f"says {part} twice")
        else:
            self._labels.add(part)

    def finish(self) -> tuple[int, int | None, Norm, tuple[str, ...]]:
        dims = self._number("dim", self._take("dim", "dim-256"))
        if dims > MAX_DIMS:
            raise self._error(f"says dim-{dims}; pgvector stores at most {MAX_DIMS} dimensions")
        chunk = self._take("chunk", "chunk-none or chunk-512")
        norm = self._take("norm", "norm-l2 or norm-none")
        if norm not in ("l2", "none"):
            raise self._error(f"says norm-{norm}; write norm-l2 or norm-none")
        size = None if chunk == "none" else self._number("chunk", chunk)
        return dims, size, norm, tuple(sorted(self._labels))  # type: ignore[return-value]  # narrowed just above

    def _take(self, word: str, example: str) -> str:
        if word not in self._named:
            raise self._error(f"does not say its {word}: add {example}")
        return self._named[word]

    def _number(self, word: str, value: str) -> int:
        if re.fullmatch(r"[1-9][0-9]{0,8}", value) is None:
            raise self._error(f"says {word}-{value}; a whole number from 1 is needed, without leading zeros")
        return int(value)

    def _error(self, what: str) -> TagError:
        return TagError(f"The tag {self._text!r} {what}.", hint=f"A complete tag looks like {_TAG_EXAMPLE}")
