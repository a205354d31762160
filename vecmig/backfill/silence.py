"""Tell that a provider does not answer, where no supervisor stands beside whoever asks it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from vecmig.embedders import Limiter

#: Seconds between two looks.
_EVERY: Final = 1.0


@contextmanager
def silence_told(limiter: Limiter, tell: Callable[[str], None]) -> Iterator[None]:
    """Look once a second, in a thread, whether a request is without an answer for long.

    Args:
        limiter: what lets the requests through.
        tell: told of it, from that thread.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_EVERY):
            silence = limiter.silence
            if silence is not None:
                tell(silence)

    thread = threading.Thread(target=watch, name="vecmig-silence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
