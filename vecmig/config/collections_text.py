"""Write collections and recipes into the text of a collections.yaml, which keeps what it says, and its comments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from vecmig.errors import ConfigError
from vecmig.text import shown

_INDENT: Final = "  "
#: What YAML reads as it stands, in braces and brackets too.
_PLAIN: Final = re.compile(r"[A-Za-z_][\w./@-]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One collection or one recipe as it is to be written."""

    name: str
    #: What stands below the name, with a comment behind it where that is not empty.
    fields: Mapping[str, tuple[Any, str]]
    #: Whether it is written in braces, on one line.
    flat: bool = False

    def lines(self, indent: str = _INDENT) -> list[str]:
        """Return its lines, ``indent`` before the name."""
        if self.flat:
            inner = ", ".join(f"{name}: {_scalar(value)}" for name, (value, _) in self.fields.items())
            return [f"{indent}{_scalar(self.name)}: {{ {inner} }}"]
        lines = [f"{indent}{_scalar(self.name)}:"]
        for name, (value, comment) in self.fields.items():
            lines.append(f"{indent}{_INDENT}{name}: {_scalar(value)}{f' # {comment}' if comment else ''}")
        return lines


def with_entries(path: Path, text: str, collections: Sequence[Entry], recipes: Sequence[Entry]) -> str:
    """Return the text of a collections.yaml with more collections and recipes, each behind those that it has.

    Args:
        path: the file, for what is said of it.
        text: what it says; it was read without an error.
        collections: the collections to add, none of which it has.
        recipes: the recipes to add, likewise.

    Raises:
        ConfigError: a section is written in braces, so that lines cannot be added.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines()
    text = "".join(f"{line}\n" for line in lines)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = {key.value: (key, value) for key, value in (root.value if isinstance(root, yaml.MappingNode) else [])}
    sections = {"collections": (collections, pairs.get("collections")), "tags": (recipes, pairs.get("tags"))}
    # from the last section to the first, because what is added moves all that follows; then those that are not there
    order = sorted(sections, key=lambda name: -found[0].start_mark.line if (found := sections[name][1]) else 1)
    for name in order:
        entries, found = sections[name]
        if entries and found:
            _extend(path, lines, *found, entries)
        elif entries:
            while lines and not lines[-1].strip():
                lines.pop()
            lines += [*([""] if lines else []), f"{name}:", *_lines(entries, _INDENT)]
    return newline.join(lines) + newline


def _extend(path: Path, lines: list[str], key: yaml.Node, value: yaml.Node, entries: Sequence[Entry]) -> None:
    if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
        indent, at = value.value[0][0].start_mark.column, min(value.end_mark.line, len(lines))
        while at > 0:
            # blank lines, and comments further left, belong to what follows
            bare = lines[at - 1].lstrip()
            if bare and not (bare.startswith("#") and len(lines[at - 1]) - len(bare) < indent):
                break
            at -= 1
        lines[at:at] = _lines(entries, " " * indent)
        return
    line, name_end = key.start_mark.line, key.end_mark.column
    nothing = isinstance(value, yaml.ScalarNode) and value.tag == "tag:yaml.org,2002:null"
    if not (nothing or (isinstance(value, yaml.MappingNode) and not value.value)) or value.end_mark.line != line:
        raise ConfigError(
            f"{shown(path)}:{line + 1}: {key.value} is written in braces, where no lines can be added.",
            hint="Write each on lines of its own, without braces; then run the same command again.",
        )
    rest = lines[line][value.end_mark.column :] if value.end_mark.column > name_end else lines[line][name_end + 1 :]
    lines[line] = f"{lines[line][:name_end]}:{rest}".rstrip()
    lines[line + 1 : line + 1] = _lines(entries, _INDENT)


def _lines(entries: Sequence[Entry], indent: str) -> list[str]:
    return [line for entry in entries for line in entry.lines(indent)]


def _scalar(value: Any) -> str:
    """Write a value on one line; a text in quotes unless it is plain in every place."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(_scalar(one) for one in value)}]"
    if isinstance(value, str) and value.isprintable() and re.search(r'["\\]', value):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, str) and (_PLAIN.fullmatch(value) is None or yaml.safe_load(value) != value):
        return yaml.safe_dump(value, default_style='"', width=1_000_000, allow_unicode=True).removesuffix("\n")
    return str(value)
