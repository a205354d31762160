"""Which vecmig this is."""

from __future__ import annotations

from functools import cache


@cache
def version() -> str:
    """Return the installed version; a checkout that is not installed has none."""
    # it reads what is installed by way of the package email, for which few commands have a use
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed_version

    try:
        return installed_version("vecmig")
    except PackageNotFoundError:
        return "0+unknown"
