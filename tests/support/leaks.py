"""Secrets of every kind, and how a test finds what became known of one."""

from __future__ import annotations

import base64
import html
import json
from functools import lru_cache
from urllib.parse import quote, quote_plus

#: By where they stand: as the key, in the path of base_url, in a header, in the proxy's address.
SECRETS = {
    "key": base64.b64encode(bytes(number * 37 % 251 for number in range(555))).decode(),
    "path": "qzj7Kp2Lx9vBn4Ws8Tf3Hd6Gm1",
    "header": "Zq7-Xw4_Lm9+Tb2/Kd8=Rf5%Nh3&Vc6",
    "proxy": "p%ss\"w0rd/<with>&'odd+signs=",
}
#: So many characters in a row tell a secret.
_RUN = 12


def _runs(secret: str) -> set[str]:
    def forms(text: str) -> set[str]:
        data = text.encode()
        return {
            text,
            quote(text, safe=""),
            quote(text),
            quote_plus(text),
            quote(quote(text, safe=""), safe=""),
            json.dumps(text),
            json.dumps(json.dumps(text)),
            repr(text),
            html.escape(text),
            data.hex(),
            *(base64.b64encode(b"\0" * before + data).decode() for before in range(3)),
            *(base64.urlsafe_b64encode(b"\0" * before + data).decode() for before in range(3)),
        }

    def runs(text: str) -> set[str]:
        lower = (form.lower() for form in forms(text))
        return {form[at : at + _RUN] for form in lower for at in range(len(form) - _RUN + 1)}

    return runs(secret) - runs("-" * len(secret))


_RUNS = {place: _runs(secret) for place, secret in SECRETS.items()}
assert not any("\n" in run for runs in _RUNS.values() for run in runs)


def leaked(text: str) -> list[str]:
    """Find the runs of 12 characters that a text has in common with a secret, in any writing."""
    # no run of a secret goes on in the next line, and what is printed and logged says most of its lines many times
    return sorted({run for line in set(text.lower().split("\n")) for run in _in_line(line)})


@lru_cache(maxsize=10_000)
def _in_line(line: str) -> frozenset[str]:
    pieces = {line[at : at + _RUN] for at in range(len(line) - _RUN + 1)}
    return frozenset().union(*(pieces & runs for runs in _RUNS.values()))
