"""Every error of vecmig and each remedy of the gate in one place, ``messages.txt``: what each says, how things stand
then, and what comes next.

A text that is changed is changed there too, where whoever reviews it sees it beside the others:

    python tests/structure/test_messages.py > tests/structure/messages.txt
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.source import ROOT, modules

#: What a check of the gate names as the way to pass it.
_REMEDY = "Remedy"
PRINTED = Path(__file__).with_name("messages.txt")


class Message(NamedTuple):
    """One error as the source has it; what is filled in stands in braces, what is put together elsewhere as ``…``."""

    module: str
    error: str
    message: str
    state: str
    hint: str

    def __str__(self) -> str:
        more = [f"    {name}: {text}" for name, text in (("state", self.state), ("hint", self.hint)) if text]
        return "\n".join([f"{self.error}: {self.message}", *more])


def _errors() -> set[str]:
    """Name VecmigError and all that derive from it, wherever they are defined."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }
    known = {"VecmigError"}
    while more := {name for name, above in bases.items() if above & known} - known:
        known |= more
    return known


def _text(node: ast.expr | None) -> str:
    match node:
        case None:
            return ""
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case ast.FormattedValue(value=value):
            return f"{{{_short(value)}}}"
        case ast.IfExp(body=body, orelse=other):
            return f"{_text(body)} | {_text(other)}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
    return "…"


def _short(value: ast.expr) -> str:
    written = ast.unparse(value)
    return written if re.fullmatch(r"[\w.]+", written) else "…"


def _messages() -> Iterator[Message]:
    errors = _errors() | {_REMEDY}
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors and node.args:
                more = {keyword.arg: _text(keyword.value) for keyword in node.keywords}
                message = _text(node.args[0])
                if message != "…":
                    path = module.path.relative_to(ROOT).as_posix()
                    yield Message(path, node.func.id, message, more.get("state", ""), more.get("hint", ""))


def printed() -> str:
    """Return all of them, by module, as ``messages.txt`` has them."""
    by_module: dict[str, list[str]] = {}
    for message in _messages():
        by_module.setdefault(message.module, []).append(str(message))
    return "\n".join("\n".join([f"# {module}", *sorted(texts), ""]) for module, texts in sorted(by_module.items()))


def test_all_errors_are_printed() -> None:
    assert PRINTED.read_text(encoding="utf-8") == printed(), "run: python tests/structure/test_messages.py > …"


def test_an_error_is_a_sentence() -> None:
    broken = [
        f"{message.module}: {message.message}"
        for message in _messages()
        if message.error != _REMEDY and not re.search(r"[.?:…})]$", message.message.strip())
    ]
    assert not broken, "\n".join(broken)


def test_a_command_to_run_ends_the_hint() -> None:
    """It is copied from there: nothing stands behind it, not even a period."""
    broken = [
        f"{message.module}: {message.hint}" for message in _messages() if re.search(r"[Rr]un: [^:]*\.$", message.hint)
    ]
    assert not broken, "\n".join(broken)


if __name__ == "__main__":
    sys.stdout.write(printed())
