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


def texts() -> Iterator[tuple[Path, int, str]]:
    """Yield what a person may read: every string of the package but names, docstrings included, and the pages."""
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.isidentifier():
                yield module.path.relative_to(ROOT), node.lineno, NAMES.sub("", node.value)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            yield page.relative_to(ROOT), number, NAMES.sub("", line)


def test_words_that_are_out_stay_out() -> None:
    found = [f"{path}:{line}: {match[0]}" for path, line, text in texts() for match in PATTERN.finditer(text)]
    assert not found, "say it in the words of the field:\n" + "\n".join(found)
