"""How a stamp comes from a text, written apart from vecmig itself: what documentation promises to whoever checks it."""

from __future__ import annotations


def text_hash(text: str) -> str:
    """Write the SQL of the hash that a fresh stamp has, of an SQL expression."""
    return f"encode(substr(sha256(convert_to({text}, 'UTF8')), 1, 16), 'hex')::uuid"
