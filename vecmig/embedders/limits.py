"""How much a server takes in one request, as its refusals have said or shown."""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Final

#: Times that a limit has to be named which is below what was taken.
_SURE: Final = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """The most texts, and the most tokens by our own estimate, in one request; None where nothing is known."""

    texts: int | None = None
    tokens: int | None = None

    def tightened(self, other: Limits) -> Limits:
        """Return the smaller of both limits, each."""
        return Limits(smaller(self.texts, other.texts), smaller(self.tokens, other.tokens))


def smaller(one: int | None, other: int | None) -> int | None:
    """Return the smaller of two limits, where None is no limit."""
    return other if one is None else one if other is None else min(one, other)


class Learned:
    """What the refusals and the answers of one server have taught. Any thread may call any method.

    A limit is not below what the server has taken in one request, unless it is named again and again: so a refusal that
    had another reason, or none, does not make all further requests smaller.
    """

    def __init__(self, known: Limits = Limits()) -> None:  # frozen
        self._limits = known
        self._most_texts = self._most_tokens = 0
        #: How often each number of texts was named.
        self._named: Counter[int | None] = Counter()
        self._turn = threading.Lock()

    @property
    def limits(self) -> Limits:
        """What is known by now."""
        return self._limits

    def tighten(self, limits: Limits) -> None:
        """Take over what was learned elsewhere."""
        with self._turn:
            self._limits = self._limits.tightened(limits)

    def passed(self, texts: int, tokens: int) -> None:
        """Note a request that the server took."""
        # most requests are no larger than one before, and need no lock to say so
        if texts > self._most_texts or tokens > self._most_tokens:
            with self._turn:
                self._most_texts = max(self._most_texts, texts)
                self._most_tokens = max(self._most_tokens, tokens)

    def named(self, limits: Limits, texts: int, tokens: int) -> bool:
        """Learn the limits that the refusal of a request names; return whether the request was above one of them."""
        with self._turn:
            # a server that counts more tokens than we do names a number above our estimate
            most_tokens = limits.tokens and min(limits.tokens, tokens // 2 if limits.tokens >= tokens else tokens)
            # a server may take less than it took, but it says so again and again
            self._named[limits.texts] += 1
            sure = self._named[limits.texts] >= _SURE
            found = Limits(
                limits.texts
                if limits.texts and limits.texts < texts and (sure or limits.texts >= self._most_texts)
                else None,
                most_tokens if most_tokens and self._most_tokens <= most_tokens else None,
            )
            self._limits = self._limits.tightened(found)
            return found != Limits()

    def shown(self, texts: int, tokens: int) -> None:
        """Learn from a request that was refused although the server took all of its texts in smaller ones."""
        with self._turn:
            if self._most_texts < texts:
                self._limits = self._limits.tightened(Limits(texts=self._most_texts))
            elif self._most_tokens < tokens:
                self._limits = self._limits.tightened(Limits(tokens=self._most_tokens))


#: A bound and its number: "batch size 64 > maximum allowed batch size 32", "at most 100 requests can be in one batch",
#: "it should not be larger than 10", "Expected an array with maximum length 2048", "The batch size limit is 1000".
_BOUND: Final = re.compile(
    r"(?:at most|up to|only|maximum|max\b|limit|(?:larger|greater|more|longer) than|exceeds?|>)[^\d.;]{0,40}?"
    r"(?<![\w.])(\d[\d,]*)(?!\w)([^.;,]{0,24})",
    re.IGNORECASE,
)
_OF_TEXTS: Final = re.compile(r"\b(?:batch|inputs?|texts?|array|requests|items|documents|embeddings)\b", re.IGNORECASE)
#: Tokens that are counted over all texts of a request, not in each.
_OF_REQUEST: Final = re.compile(
    r"\bper (?:\w+ )?(?:request|batch|call)\b|\brequest size\b|\bin (?:one|a|the) (?:request|batch)\b",
    re.IGNORECASE,
)
_UNIT: Final = re.compile(r"token|char|byte|\b[km]i?b\b|dimension|second|minute", re.IGNORECASE)


def named_limits(reason: str) -> Limits:
    """Read which limits of one request a refusal names; whoever uses them tries whether they are right.

    The wordings are those of text-embeddings-inference, OpenAI, Azure, Gemini, Cohere, Voyage and DashScope.
    """
    texts: list[int] = []
    tokens: list[int] = []
    for match in _BOUND.finditer(reason):
        number = int(match[1].replace(",", ""))
        unit = _UNIT.search(match[0])
        if number < 1:
            continue
        if unit is None:
            texts.append(number)
        elif unit[0].lower() == "token":
            tokens.append(number)
    return Limits(
        min(texts) if texts and _OF_TEXTS.search(reason) else None,
        min(tokens) if tokens and _OF_REQUEST.search(reason) else None,
    )
