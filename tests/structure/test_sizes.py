"""Files stay small enough to be read in one go, and have one purpose each."""

from __future__ import annotations

from support.source import ROOT, modules

LINES = 400


def test_files_have_at_most_400_lines() -> None:
    sizes = {
        module.path.relative_to(ROOT).as_posix(): len(module.path.read_text(encoding="utf-8").splitlines())
        for module in modules().values()
    }

    assert {path: lines for path, lines in sizes.items() if lines > LINES} == {}, "cut these by purpose"
