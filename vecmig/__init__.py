"""Migrations for embeddings: revisions, tags and gates for the vectors in a PostgreSQL database."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecmig.errors import VecmigError
    from vecmig.model.gate import Gate, MinSamples, NoWorse, Trust
    from vecmig.operations import Migration
    from vecmig.reader import AsyncReader, Reader

    __version__: str

#: Where each public name is defined. Names are imported when first used, so that a command starts quickly.
_HOMES = {
    "AsyncReader": "vecmig.reader",
    "Gate": "vecmig.model.gate",
    "Migration": "vecmig.operations",
    "MinSamples": "vecmig.model.gate",
    "NoWorse": "vecmig.model.gate",
    "Reader": "vecmig.reader",
    "Trust": "vecmig.model.gate",
    "VecmigError": "vecmig.errors",
}

__all__ = ["AsyncReader", "Gate", "Migration", "MinSamples", "NoWorse", "Reader", "Trust", "VecmigError", "__version__"]


if not TYPE_CHECKING:
    # a type checker goes by the imports above, and finds a name that is not there
    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from vecmig.about import version

            return version()
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
