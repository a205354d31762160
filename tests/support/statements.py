"""The statements that a program sends."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest


def record_statements(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that each statement of this process joins from now on."""
    sent: list[Any] = []
    execute = psycopg.Cursor.execute

    def recorded(cursor: psycopg.Cursor[Any], *args: Any, **options: Any) -> Any:
        sent.append(args[0])
        return execute(cursor, *args, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", recorded)
    return sent
