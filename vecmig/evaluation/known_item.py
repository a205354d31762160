"""A suite without labels: the title of a record, or its first sentence, must find the record."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import yaml

from vecmig.source.keys import Key

#: What such a suite can and cannot show, in sentences for a person.
CAN_SHOW: Final = (
    "It shows whether a tag finds a record by its own title, so it reveals what is broken: a wrong model, shuffled or "
    "truncated texts, holes, a wrong prompt, an index that loses records."
)
CANNOT_SHOW: Final = (
    "It cannot show how well the queries of your users are answered: those use other words than the text does, often "
    "have several good answers, and some have none. A tag that scores higher here may serve them worse. Beside it, "
    "write a suite of real queries with the records that answer them."
)
_WIDTH: Final = 110
_LINE_BREAKS: Final = "\x85\u2028\u2029"


def known_item_text(collection: str, k: int, items: Sequence[tuple[str, Key]], source: str) -> str:
    """Write the suite as a file.

    Args:
        collection: what is asked.
        k: how many records an answer has.
        items: titles, each with the key of the one record that has it.
        source: what the titles are, in words.
    """
    comments = [
        f"Known items: {source} must find its record. Made by: vecmig eval --make known-item",
        CAN_SHOW,
        CANNOT_SHOW,
    ]
    lines = [f"# {line}" for text in comments for line in textwrap.wrap(text, _WIDTH)]
    lines += [_line({"collection": collection}), _line({"k": k}), "queries:"]
    lines += [f"  - {_entry(title, key)}" for title, key in items]
    return "\n".join(lines) + "\n"


def _entry(title: str, key: Key) -> str:
    parts = [int(part) if part.isascii() and part.isdigit() and str(int(part)) == part else part for part in key]
    entry = {"query": title, "relevant": [parts[0] if len(parts) == 1 else parts]}
    return _dumped(entry, flow=True)


def _line(value: Mapping[str, object]) -> str:
    return _dumped(value, flow=False)


def _dumped(value: Mapping[str, object], *, flow: bool) -> str:
    # PyYAML would write these as they are, and read them back as line breaks
    escaped = any(break_ in str(text) for break_ in _LINE_BREAKS for text in _texts(value))
    text: str = yaml.safe_dump(
        value, default_flow_style=flow, sort_keys=False, allow_unicode=not escaped, width=float("inf")
    )
    return text.rstrip("\n")


def _texts(value: object) -> Iterator[object]:
    if isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
    else:
        yield value
