"""Read YAML so that every value knows its line, and a key that stands twice is a problem instead of a silent loss."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml

from vecmig.config.values import Problems, Value
from vecmig.errors import ConfigError
from vecmig.text import shown


def read_yaml(problems: Problems) -> Value | None:
    """Read ``problems.path``; None if it holds nothing but comments.

    Raises:
        ConfigError: the file is missing, unreadable, or not YAML.
    """
    path = problems.path
    try:
        text = path.read_text(encoding="utf-8-sig")
        node = _composed(text)
    except FileNotFoundError:
        raise ConfigError(f"{shown(path)} does not exist.", hint="Run: vecmig init") from None
    except OSError as error:
        raise ConfigError(f"{shown(path)} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown(path)} is not UTF-8: byte {error.start} cannot be read.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{shown(path)}:{line}: this is not YAML: {error.problem or error.context}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{shown(path)}: this is not YAML: {str(error).splitlines()[0]}.") from None
    return None if node is None else _Reader(problems).value(node, node.start_mark.line + 1)


@lru_cache(maxsize=16)
def _composed(text: str) -> yaml.Node | None:
    """Return the nodes of a text, which nobody changes: a service reads the same file at each look."""
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    return node


class _Reader:
    """Turns composed nodes into values."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._scalars = yaml.SafeLoader("")
        self._open: set[int] = set()

    def value(self, node: yaml.Node, line: int) -> Value:
        if id(node) in self._open:
            self._problems.add(line, "this alias stands inside the value that it names")
            return Value(None, line)
        self._open.add(id(node))
        try:
            return Value(self._data(node), line, node.value if isinstance(node, yaml.ScalarNode) else "")
        finally:
            self._open.discard(id(node))

    def _data(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, item.start_mark.line + 1) for item in node.value]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._problems.add(node.start_mark.line + 1, f"{node.value!r} cannot be read as {node.tag}")
            return None

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Value]:
        own: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                merged = {**dict(self._merged(item, line)), **merged}
                continue
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None:
                self._problems.add(line, "this key is not a text")
            elif name in own:
                self._problems.add(line, f"the key {name!r} stands here a second time; first in line {own[name].line}")
            else:
                own[name] = self.value(item, line)
        return {**merged, **own}

    def _merged(self, item: yaml.Node, line: int) -> Iterator[tuple[str, Value]]:
        sources = item.value if isinstance(item, yaml.SequenceNode) else [item]
        for source in reversed(sources):
            data = self.value(source, line).data
            if isinstance(data, dict):
                yield from data.items()
            else:
                self._problems.add(line, "<<: must name a mapping")
