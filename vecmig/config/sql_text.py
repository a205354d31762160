"""Look at pieces of SQL from collections.yaml before they become part of larger statements.

Whether an expression is valid is for the database to say. What it could not say is that a fragment ends the statement
or the parentheses it is put into: ``true) OR (true`` would be accepted and mean something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = re.compile(
    r"""
      (?P<escape>   (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*(?P<escape_end>')? )
    | (?P<string>   '(?:[^']|'')*(?P<string_end>')? )
    | (?P<name>     "(?:[^"]|"")*(?P<name_end>")? )
    | (?P<dollar>   (?<![\w$])\$(?P<mark>(?:[^\W\d]\w*)?)\$ )
    | (?P<line>     --[^\n]*(?P<line_end>\n)? )
    | (?P<block>    /\* )
    | (?P<bracket>  [()\[\]] )
    | (?P<end>      ; )
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSING: Final = {")": "(", "]": "["}
_UNQUOTED = r"[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*"
_QUOTED = r'"(?:[^"\0]|"")+"'
_PART = rf"(?:{_UNQUOTED}|{_QUOTED})"
_RELATION = rf"\s*({_PART})(?:\s*\.\s*({_PART}))?\s*"
_UPPER_TO_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def parse_relation(text: str) -> tuple[str, ...] | None:
    """Read ``table`` or ``schema.table`` by SQL's rules, folding what is not quoted; None if it is neither."""
    # compiled where it is used, which takes 8 ms
    match = re.fullmatch(_RELATION, text)
    return None if match is None else tuple(_identifier(part) for part in match.groups() if part is not None)


def _identifier(part: str) -> str:
    if part.startswith('"'):
        return part[1:-1].replace('""', '"')
    # PostgreSQL folds only ASCII in a multi-byte encoding.
    return part.translate(_UPPER_TO_LOWER)


def fragment_problem(sql: str) -> str | None:
    """Say why ``sql`` cannot stand inside a larger statement, or None if it can."""
    if "\0" in sql:
        return "holds a NUL character"
    depth: list[str] = []
    for kind, token in _tokens(sql):
        if kind == "problem":
            return token
        if token in ("(", "["):
            depth.append(token)
        elif not depth or depth.pop() != _CLOSING[token]:
            return f"closes a {token!r} that it did not open"
    return f"opens a {depth[-1]!r} that it does not close" if depth else None


def _tokens(sql: str) -> Iterator[tuple[str, str]]:
    """Yield the brackets outside quotes and comments, and, as ``problem``, the first thing that does not belong."""
    position = 0
    while match := _TOKEN.search(sql, position):
        # The outer groups close last, so this is never one of the groups inside them.
        kind = str(match.lastgroup)
        position = match.end()
        if kind == "bracket":
            yield kind, match[0]
        elif kind == "end":
            yield "problem", "holds a ';': one expression is needed, not a statement"
        elif kind == "dollar":
            position = sql.find(match[0], position) + len(match[0])
            if position < match.end():
                yield "problem", f"opens a quote {match[0]} that it does not close"
        elif kind == "block":
            position = _after_comment(sql, position)
            if position < 0:
                yield "problem", "opens a comment /* that it does not close"
                return
        elif match[f"{kind}_end"] is None:
            yield "problem", _unended(kind)


def _unended(kind: str) -> str:
    if kind == "line":
        return "ends in a comment --, which would swallow what follows: use /* … */"
    quote = '"' if kind == "name" else "'"
    return f"opens a quote {quote} that it does not close"


def _after_comment(sql: str, position: int) -> int:
    """Return where the comment opened before ``position`` ends, or -1; PostgreSQL's comments nest."""
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(sql, position):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    return -1
