"""The gate of the way back: how much the tag that reads are to return to may lack, and what is said of it."""

from __future__ import annotations

from vecmig.errors import GateRefused
from vecmig.freshness.coverage import Coverage
from vecmig.operations.workspace import Declaration


def lacking(found: Coverage) -> int:
    """Count the records that going back would lose; one that the old tag rejected was never there."""
    return found.stale + found.missing


def what_lacks(tag: str, found: Coverage) -> str:
    """Say what is not there after a flip to a tag."""
    parts = [f"{lacking(found)} of {found.eligible} records, which vecmig sync embeds"] if lacking(found) else []
    parts += [f"{found.rejected} that it rejected"] if found.rejected else []
    return f"{tag} lacks a fresh vector for {' and '.join(parts)}."


def way_back_refused(declared: Declaration, found: Coverage, rate: float | None) -> GateRefused:
    """Give the error of a tag that lacks more than the budget of the revision that is to be taken back.

    Args:
        declared: the revision.
        found: its old tag.
        rate: records per second, as the tag's last backfill measured it; None where there was none.
    """
    budget = declared.gate.freshness_budget
    takes = f", which takes about {_rough(lacking(found) / rate)} at the rate of its backfill" if rate else ""
    return GateRefused(
        f"The gate of the way back refuses: {declared.old_tag} lacks {lacking(found)} of {found.eligible} records, and "
        f"the freshness_budget {budget:g} of revision {declared.revision} allows {int(budget * found.eligible)}.",
        state=f"Nothing was changed: reads use {declared.new_tag}. After the flip {found.missing} records would not be "
        f"found at all, and {found.stale} only by their old text.",
        hint=f"Run: vecmig sync{takes}. Then run this again. It is refused until sync has caught up; there is no flag, "
        f"but freshness_budget can be raised in the revision: vecmig edit {declared.revision}",
    )


def _rough(seconds: float) -> str:
    for size, unit in ((3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
