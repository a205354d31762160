"""The tutorial is followed word for word, and it and README show what the program prints."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.source import ROOT


@pytest.mark.long
def test_pages_show_what_the_program_prints() -> None:
    command = [sys.executable, "docs/record.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
