"""The gate of a rollback: how much the tag that is to be live again may lack, and what is said of it."""

from __future__ import annotations

from vecmig.errors import GateRefused
from vecmig.freshness.coverage import Coverage
from vecmig.operations.context import Declaration
from vecmig.text import count, counted, duration


def lacking(found: Coverage) -> int:
    """Count the records that a rollback would lose; one that the old tag rejected was never there."""
    return found.stale + found.missing


def what_lacks(tag: str, found: Coverage, theirs: int = 0) -> str:
    """Say what is not there once a tag is live; ``theirs`` is what the application alone can make good."""
    then = f"of which {count(theirs)} are the application's to write" if theirs else "which vecmig sync embeds"
    parts = [f"{_of_all(found)}, {then}"] if lacking(found) else []
    parts += [f"{count(found.rejected)} that it rejected"] if found.rejected else []
    return f"{tag} lacks a fresh vector for {' and '.join(parts)}."


def rollback_refused(declared: Declaration, found: Coverage, rate: float | None, theirs: int = 0) -> GateRefused:
    """Return the error of a tag that lacks more than the budget of the revision that is to be rolled back.

    Args:
        declared: the revision.
        found: its old tag.
        rate: records per second, as the tag's last backfill measured it; None where there was none.
        theirs: of what it lacks, what the application alone can make good.
    """
    budget = declared.gate.freshness_budget
    seconds = max(round(lacking(found) / rate), 1) if rate else None
    edit = f"vecmig edit {declared.revision}"
    takes = f", which takes about {duration(seconds)} at the rate of its backfill" if seconds else ""
    return GateRefused(
        f"The gate refuses the rollback: {declared.old_tag} lacks {_of_all(found)}, and the freshness_budget "
        f"{budget:g} of revision {declared.revision} allows {count(int(budget * found.eligible))}.",
        state=f"Nothing was changed: reads use {declared.new_tag}. After a rollback {count(found.missing)} records "
        f"would not be found at all, and {count(found.stale)} only by their old text.",
        hint=f"{count(theirs)} of these are the application's to write, and vecmig sync takes over what it writes. "
        f"There is no flag, but freshness_budget can be raised in the revision: {edit}"
        if theirs > budget * found.eligible
        else f"Run: vecmig sync{takes}. Then run this again. It is refused until sync has caught up; there is no flag, "
        f"but freshness_budget can be raised in the revision: {edit}",
    )


def _of_all(found: Coverage) -> str:
    return f"{count(lacking(found))} of {counted(found.eligible, 'record')}"
