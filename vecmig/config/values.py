"""What a YAML file holds, each value with its line, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vecmig.errors import ConfigError, RecipeMissing
from vecmig.text import shown, unknown


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the file: plain data for a scalar, a list of values, or a dict of values by key."""

    data: Any
    #: The line on which its key stands, or itself where it has none; from 1.
    line: int
    #: A scalar as it is written, without quotes; empty for a list or a mapping.
    written: str = ""

    def plain(self) -> Any:
        """Return the value without its lines."""
        if isinstance(self.data, dict):
            return {key: value.plain() for key, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.data


@dataclass(slots=True)
class Problems:
    """Collects everything that is wrong with one file, to say it at once."""

    path: Path
    found: list[tuple[int, str]] = field(default_factory=list)
    #: Those among them that are a tag without a recipe.
    missing: int = 0

    def add(self, line: int, what: str) -> None:
        """Note a problem; ``what`` is a sentence without its full stop."""
        self.found.append((line, what))

    def refuse_unknown(self, data: Mapping[str, Value], known: Iterable[str], what: str = "field") -> None:
        """Note each name that is none of those that are known."""
        for name, value in data.items():
            if name not in known:
                self.add(value.line, unknown(what, name, known))

    def raise_if_any(self) -> None:
        """Raise one ConfigError with all problems, in the order of the file."""
        found = sorted(set(self.found))
        lines = [f"{shown(self.path)}:{line}: {what}{'' if what.endswith('?') else '.'}" for line, what in found]
        kind = RecipeMissing if self.missing == len(self.found) else ConfigError
        if len(lines) == 1:
            raise kind(lines[0])
        if lines:
            raise kind("\n  ".join([f"{shown(self.path)} has {len(lines)} problems:", *lines]))
