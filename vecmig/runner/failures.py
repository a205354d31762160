"""Keep how a run failed, for whoever looks later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from vecmig.config import without_passwords
from vecmig.errors import DatabaseUnreachable, Interrupted, LockHeld, Pending, VecmigError
from vecmig.ledger.failures import FAILED, SUCCEEDED, is_sync, last_failures
from vecmig.runner.project import Project
from vecmig.text import one_line


@contextmanager
def failures_kept(
    project: Project, what: str, collections: Sequence[str], *, but: type[VecmigError] = LockHeld
) -> Iterator[None]:
    """Enter into the history of collections how a run of them fails.

    What a person stopped, another run kept from beginning, or waits for what is on order, did not fail. Where the
    database is away, it is not kept.

    Args:
        project: the project.
        what: the command.
        collections: of which the run is.
        but: what is no failure of this command.
    """
    try:
        yield
    except (DatabaseUnreachable, Interrupted, LockHeld, Pending, but):
        raise
    except Exception as error:
        keep_failure(project, what, collections, error)
        raise


def keep_failure(project: Project, what: str, collections: Sequence[str], error: Exception) -> None:
    """Enter into the history of collections how a run of them failed, where the database lets it."""
    with suppress(VecmigError), project.context.transaction() as ledger:
        for name in collections:
            ledger.record_event(FAILED, collection=name, data=_figures(what, error))


def succeeded(project: Project, what: str, collections: Iterable[str]) -> None:
    """Enter that a run of collections came to its end, where the last one failed: it may leave no other trace.

    An upgrade says nothing of a sync, nor a sync of an upgrade.
    """
    with project.database.session() as connection:
        found = last_failures(connection, project.database.schema)
    failed = {name for name in collections if any(f.of_sync == is_sync(what) for f in found.get(name, ()))}
    if failed:
        with project.context.transaction() as ledger:
            for name in sorted(failed):
                ledger.record_event(SUCCEEDED, collection=name, data={"what": what})


def _figures(what: str, error: Exception) -> dict[str, Any]:
    if not isinstance(error, VecmigError):
        # what an unforeseen error says may hold anything
        return {"what": what, "error": f"unexpectedly: {type(error).__name__}", "exit_code": 1}
    hint = {"hint": _kept(error.hint)} if error.hint else {}
    return {"what": what, "error": _kept(error.message), "exit_code": error.exit_code} | hint


def _kept(text: str) -> str:
    return one_line(without_passwords(text.partition("\n")[0])) or ""
