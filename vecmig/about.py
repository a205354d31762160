"""Which vecmig this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


def version() -> str:
    """Return the installed version; a checkout that is not installed has none."""
    try:
        return installed_version("vecmig")
    except PackageNotFoundError:
        return "0+unknown"
