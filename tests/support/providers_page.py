"""docs/providers.md, taken apart as somebody who copies from it would."""

from __future__ import annotations

import re
from functools import cache

from support.source import ROOT

_SECTION = re.compile(r"^## (?P<title>.+?)\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BASE_URL = re.compile(r'(base_url: "?)https?://[^/"\s]+')


@cache
def blocks() -> dict[str, list[str]]:
    """Return the YAML of each section, by its title."""
    page = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    return {found["title"]: _BLOCK.findall(found["text"]) for found in _SECTION.finditer(page)}


def pasted(collections: str, block: str) -> str:
    """Paste a block over everything from ``tag:`` on, as the page says."""
    head, _, _ = collections.partition("    tag: ")
    return head + block


def at(root: str, block: str) -> str:
    """Put another server into a block; one that names none gets a line for it, behind the provider's."""
    if "base_url" not in block:
        lines = f"    base_url: {root}/v1\n    api_key_env: OPENAI_API_KEY\n    encoding_format: base64\n"
        return re.sub(r"(    provider: openai).*\n", rf"\1\n{lines}", block)
    return _BASE_URL.sub(rf"\1{root}", block)
