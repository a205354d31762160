"""Write past rows that an application holds: try again for a while rather than queue, and then leave them out."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from psycopg import errors as pg

#: Seconds for which a write is tried again while the application holds one of its rows.
LOCK_PATIENCE: Final = 10.0
#: What passes by itself: a row that the application holds, or that another writer has just written.
_HELD: Final = (pg.LockNotAvailable, pg.DeadlockDetected, pg.SerializationFailure, pg.UniqueViolation)


def past_held_rows(write: Callable[[str], int], patience: float | None = None) -> int:
    """Return what ``write`` returns, which runs one transaction and is told how to lock: NOWAIT or SKIP LOCKED.

    vecmig never waits with locks in its hands, so the application cannot end in a deadlock with it. ``patience`` is in
    seconds; None for ``LOCK_PATIENCE``.
    """
    deadline = time.monotonic() + (LOCK_PATIENCE if patience is None else patience)
    while True:
        try:
            return write("NOWAIT")
        except _HELD:
            if time.monotonic() > deadline:
                return write("SKIP LOCKED")
        time.sleep(random.uniform(0.02, 0.1))  # noqa: S311  # no secret
