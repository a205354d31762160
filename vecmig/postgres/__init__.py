"""Talks to a server and knows no table: sessions, locks, statements, settings.

Other packages use these modules; the rest is for themselves.
"""

__all__ = [
    "blockers",
    "called",
    "embedded",
    "engine",
    "execute",
    "loaders",
    "lock_watch",
    "locks",
    "named_sql",
    "notify",
    "pgvector",
    "reconnecting",
    "recorder",
    "sessions",
    "settings",
    "throttle",
]
