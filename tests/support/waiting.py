"""Waiting for a process of its own to have done something, and hardly waiting for a provider."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest

from vecmig.embedders import Limiter


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something holds; the process must not end before."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def try_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a run tries again be tried again after a moment."""
    sleep = Limiter.sleep
    monkeypatch.setattr(Limiter, "sleep", lambda limiter, seconds: sleep(limiter, min(seconds, 0.001)))
