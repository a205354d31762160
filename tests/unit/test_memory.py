"""What a backfill asks of Python's memory, and that it leaves it as it was."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from vecmig.backfill.memory import streaming


def test_garbage_is_collected_seldom_meanwhile_and_as_before_afterwards() -> None:
    before = gc.get_threshold()
    with streaming():
        assert gc.get_threshold() == (50_000, *before[1:])
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


_THREADS = """
import ctypes, sys, threading
from contextlib import nullcontext
from vecmig.backfill.memory import streaming

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(32)

def work():
    together.wait()
    for _ in range(64):
        libc.malloc(1000)
    together.wait()

with streaming() if sys.argv[1] == "streaming" else nullcontext():
    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
    libc.fflush(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's arenas")
def test_threads_share_few_arenas() -> None:
    """Or each would keep for itself what passed through it once."""
    arenas = {}
    for how in ("as usual", "streaming"):
        done = subprocess.run([sys.executable, "-c", _THREADS, how], capture_output=True, text=True, check=True)
        arenas[how] = done.stdout.count("<heap nr=")
    assert arenas["streaming"] == 2
    assert arenas["as usual"] > 2
