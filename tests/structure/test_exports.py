"""The public face of the package: small, sorted, and changed only on purpose."""

from __future__ import annotations

import vecmig

#: A name added or removed here is a change of the public interface: say so in CHANGELOG.md.
PUBLIC = ["AsyncReader", "Gate", "Migration", "MinSamples", "NoWorse", "Reader", "Trust", "VecmigError", "__version__"]


def test_public_names_are_pinned() -> None:
    assert list(vecmig.__all__) == PUBLIC


def test_public_names_are_sorted() -> None:
    assert list(vecmig.__all__) == sorted(vecmig.__all__)


def test_every_public_name_resolves() -> None:
    missing = [name for name in vecmig.__all__ if not hasattr(vecmig, name)]
    assert not missing


def test_public_objects_have_docstrings() -> None:
    silent = [name for name in vecmig.__all__ if callable(thing := getattr(vecmig, name)) and not thing.__doc__]
    assert not silent
