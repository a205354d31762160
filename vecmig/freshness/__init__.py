"""What is due: stamps, coverage, pending records, and what tells of changes.

Other packages use these modules; the rest is for themselves.
"""

__all__ = [
    "change_tracking",
    "changes",
    "coverage",
    "fills",
    "full_pass",
    "growth",
    "other_ledgers",
    "pending",
    "stamps",
    "standing",
    "steadiness",
    "tracking_functions",
]
