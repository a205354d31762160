"""One word, one meaning: the words that gave way to the field's own stay out of what a person reads."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from support.source import ROOT, modules

#: What is out, and what is said instead.
OUT = {
    r"way[ _]back": "rollback",
    r"way[ _]down": "downgrade",
    r"(taken?|takes|took|taking) (it |that |this )?back": "roll back, undo",
    r"st(and|ands|anding|ood) still": "pause (an operator), wait (a run)",
    r"believ(e|es|ed)": "trust",
    r"vouch(es|ed)?": "guarantee, trust",
    r"shuts? out": "has no access",
    r"look(s|ed)? at:? `?vecmig": "run, check",
    r"anew": "again",
    r"for ever": "once, never changes",
    r"so many": "the number, or nothing",
    r"nobody": "no run, no session, not known",
    r"whole(?! numbers?)": "full, complete",
    r"flip(s|ped)?": "cutover, switch",
    r"questions?": "query",
}
PATTERN = re.compile(rf"\b({'|'.join(OUT)})\b", re.IGNORECASE)
#: What vecmig calls so outside of its own texts: fields of JSON, columns and names in code.
NAMES = re.compile(r"`[^`\n]+`|``[^`]+``")


def pages() -> list[Path]:
    """Return what a person reads beside the program, what vecmig init writes included."""
    written = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "templates").rglob("*"), ROOT / "benchmarks" / "README.md"]
    return [path for path in sorted([*ROOT.glob("*.md"), *written]) if path.is_file()]


def texts() -> Iterator[tuple[Path, int, str]]:
    """Yield what a person may read: the strings of the package but names, docstrings of commands too, and the pages."""
    for module in modules().values():
        docstrings = set() if module.layer == "cli" else _docstrings(module.tree)
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in docstrings:
                continue
            if not node.value.isidentifier():
                yield module.path.relative_to(ROOT), node.lineno, NAMES.sub("", node.value)
    for page in pages():
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            yield page.relative_to(ROOT), number, NAMES.sub("", line)


def _docstrings(tree: ast.Module) -> set[int]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    firsts = (node.body[0] for node in ast.walk(tree) if isinstance(node, owners) and node.body)
    return {id(first.value) for first in firsts if isinstance(first, ast.Expr)}


def test_words_that_are_out_stay_out() -> None:
    found = [f"{path}:{line}: {match[0]}" for path, line, text in texts() for match in PATTERN.finditer(text)]
    assert not found, "say it in the words of the field:\n" + "\n".join(found)
