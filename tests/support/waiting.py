"""Waiting for a process of its own to have done something."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something holds; the process must not end before."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)
