"""The settings of a project, as values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

EMBEDDED: Final = "embedded:"
Engine = Literal["local", "ray"]
ENGINES: Final[tuple[Engine, ...]] = get_args(Engine)
FILE_TOKENS: Final = ("rev", "slug", "year", "month", "day", "hour", "minute", "second", "epoch")
#: What ``provider_wait`` says for a wait without end.
UNLIMITED: Final = "unlimited"
#: Seconds that vecmig waits for a lock in one go, unless a project says otherwise: so long may others queue behind it.
LOCK_TIMEOUT: Final = 0.1


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one project; every path is absolute."""

    #: The file that was read.
    path: Path | None
    #: A PostgreSQL URL, or ``embedded:`` and the absolute directory of the embedded database.
    database_url: str = field(repr=False)
    script_location: Path
    version_locations: tuple[Path, ...]
    collections_path: Path
    #: An SQLAlchemy engine that opens the connections, in place of the URL: with a team's events and tokens.
    database_engine: Any = field(default=None, repr=False, compare=False)
    #: The schema that holds vecmig's own tables.
    schema: str = "vecmig"
    #: The schema that holds the vectors of new collections; None for vecmig's own.
    vectors_schema: str | None = None
    #: Name of a new script, without ``.py``; a ``str.format`` template over ``FILE_TOKENS``.
    file_template: str = "{rev}_{slug}"
    truncate_slug_length: int = 40
    #: The folder under ``templates/`` that ``init`` and ``revision`` write from.
    template: str = "generic"
    #: Seconds for which a lock is tried again before giving up.
    lock_wait: float = 30.0
    #: Longest of these tries, in seconds: so long may the application queue behind it.
    lock_timeout: float = LOCK_TIMEOUT
    #: Most memory for an index build, in MB.
    maintenance_work_mem_mb: int = 2048
    #: Parallel workers of an index build; None for the server's max_parallel_maintenance_workers.
    index_workers: int | None = None
    #: Seconds for which a run tries to reach a database again that has gone away; 0 to stop at once.
    reconnect_wait: float = 300.0
    #: Seconds for which a run waits for a provider that answers no request; 0 to stop at the first try that fails.
    provider_wait: float = math.inf
    #: Days for which shadow reads are kept.
    keep_shadow_days: float = 30.0
    #: Days for which the events of syncs are kept.
    keep_sync_days: float = 30.0
    #: A SELECT of one number; while that is above 0, backfills wait.
    throttle_query: str | None = None
    #: Seconds that a replica may be behind before backfills wait; None to let it.
    max_replica_lag: float | None = None
    #: Who embeds in a backfill: this process, or workers on Ray; and how many, None for as many as there is room for.
    engine: Engine = "local"
    workers: int | None = None
    #: Whether a run waits for what it has ordered through a provider's Batch API.
    wait_for_batches: bool = True
    #: US dollars that embedding may cost, as the command line has it: in place of a recipe's ``budget_usd``.
    max_cost: float | None = None
    #: The ``-x key=value`` pairs of the command line.
    x: Mapping[str, str] = field(default_factory=dict)
    #: Told why a command waits that tells nothing else meanwhile, and what for: the same as long as it does. Any thread
    #: may call it.
    on_wait: Callable[[str, str], None] | None = field(default=None, repr=False, compare=False)
