"""How values of the database become values of Python's, whatever a session's settings say."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

import psycopg
from psycopg import DataError
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.types import datetime as dates
from psycopg.types import numeric as numbers
from psycopg.types.string import TextLoader


def _loader(base: type[Loader]) -> type[Loader]:
    """Make a loader that reads what vecmig's statements ask for: ISO, and UTC.

    The driver goes by what the session says when the rows are fetched, and a reader's settings have ended with its
    transaction by then. What Python has no value for, such as infinity or a year before the first, stays a text.
    """

    class Settled(base):  # type: ignore[valid-type,misc]  # a base that is not known before
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:  # noqa: ARG002  # see above
            super().__init__(oid, None)

        def load(self, data: Buffer) -> Any:
            try:
                return super().load(data)
            except DataError:
                return bytes(data).decode()

    return Settled


def _one_nan(base: type[Loader], nan: Any) -> type[Loader]:
    """Make a loader that gives one and the same NaN: two keys that have it are one key to a dict, and equal."""

    class OneNan(base):  # type: ignore[valid-type,misc]  # a base that is not known before
        def load(self, data: Buffer) -> Any:
            return nan if bytes(data) == b"NaN" else super().load(data)

    return OneNan


_LOADERS: Final[dict[str, type[Loader]]] = {
    "date": _loader(dates.DateLoader),
    "timestamp": _loader(dates.TimestampLoader),
    "timestamptz": _loader(dates.TimestamptzLoader),
    "time": _loader(dates.TimeLoader),
    "timetz": _loader(dates.TimetzLoader),
    "float4": _one_nan(numbers.FloatLoader, math.nan),
    "float8": _one_nan(numbers.FloatLoader, math.nan),
    "numeric": _one_nan(numbers.NumericLoader, Decimal("NaN")),
    # Python has no months
    "interval": TextLoader,
}


def load_alike(adapters: AdaptersMap) -> None:
    """Let values be loaded by ``adapters`` as in vecmig's own sessions."""
    for name, loader in _LOADERS.items():
        adapters.register_loader(name, loader)


class _Context:
    """What a new connection takes over."""

    connection: psycopg.Connection[Any] | None = None

    def __init__(self) -> None:
        self.adapters = AdaptersMap(psycopg.adapters)
        load_alike(self.adapters)


#: For ``connect(context=…)``.
CONTEXT: Final = _Context()
