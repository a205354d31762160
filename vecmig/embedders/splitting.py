"""The one way to an embedder: packed into requests that it takes, split where one is refused, each culprit named."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np

from vecmig.embedders.batches import Packing, pack, token_limit
from vecmig.embedders.embedder import Embedded, Kind
from vecmig.embedders.limiter import Abandoned
from vecmig.embedders.limits import Learned, Limits
from vecmig.embedders.texts import estimated_tokens
from vecmig.errors import EmbedderError, PoisonInputError, TerminalEmbedderError, TransientEmbedderError
from vecmig.model.recipe import Recipe


class Requests(Packing, Protocol):
    """Sends one request."""

    recipe: Recipe
    learned: Learned

    def request(self, texts: list[str], kind: Kind, *, suspect: bool = False) -> Embedded:
        """Send it; raises PoisonInputError where the provider takes others and refuses this one."""


def embed_each(
    requests: Requests,
    texts: list[str],
    kind: Kind,
    *,
    owners: Sequence[Hashable] | None = None,
    tokens: int | None = None,
) -> Embedded:
    """Embed any number of texts, prompts applied; see ``Embedder.embed_each``."""
    whole = tokens is not None and 0 < len(texts) <= requests.max_batch and tokens <= token_limit(requests)
    return _Splitting(requests, texts, kind, owners or range(len(texts))).run(whole=whole)


class _Splitting:
    """The texts of one call, and what became of them."""

    def __init__(self, requests: Requests, texts: list[str], kind: Kind, owners: Sequence[Hashable]) -> None:
        self._requests = requests
        self._texts = texts
        self._kind = kind
        self._owners = owners
        self._refused: dict[int, str] = {}
        self._blamed: set[Hashable] = set()
        self._found: list[tuple[list[int], Embedded]] = []

    def run(self, *, whole: bool) -> Embedded:
        """Send all texts, in one request where they are known to fit, and gather what became of them."""
        rows = range(len(self._texts))
        failure: EmbedderError | Abandoned | None = None
        try:
            if whole:
                self._send(list(rows))
            else:
                self._send_all(rows)
        except (EmbedderError, Abandoned) as error:
            failure = error
        if isinstance(failure, TerminalEmbedderError | TransientEmbedderError):
            # the provider may be to blame after all
            self._refused.clear()
        if failure is None and len(self._found) == 1 and len(self._found[0][0]) == len(rows):
            return self._found[0][1]
        vectors = np.full((len(rows), self._requests.recipe.dims), np.nan, dtype=np.float32)
        left = set(rows) - self._refused.keys()
        while self._found:
            # a record may have a great many chunks, so its vectors are better not held twice
            sent, found = self._found.pop()
            vectors[sent] = found.vectors
            self._refused |= {sent[row]: why for row, why in found.refused.items()}
            left.difference_update(sent)
        return Embedded(vectors, self._refused, failure, frozenset(left))

    def _send_all(self, rows: Sequence[int], *, suspect: bool = False) -> bool:
        """Send rows as they are packed; return whether no request was refused."""
        parts = pack(rows, lambda row: (1, estimated_tokens(self._texts[row])), self._requests)
        taken = [self._send(part, suspect=suspect) for part in parts]
        return all(taken)

    def _send(self, rows: list[int], *, suspect: bool = False) -> bool:
        rows = [row for row in rows if self._owners[row] not in self._blamed] if self._blamed else rows
        if not rows:
            return True
        try:
            found: Embedded | PoisonInputError = self._requests.request(
                [self._texts[row] for row in rows], self._kind, suspect=suspect
            )
        except PoisonInputError as error:
            found = error
        if isinstance(found, PoisonInputError):
            # not while it is handled: what is raised then would hold it, and so on at each halving
            self._refuse(rows, found)
            return False
        self._found.append((rows, found))
        self._blamed |= {self._owners[rows[row]] for row in found.refused}
        return True

    def _refuse(self, rows: list[int], error: PoisonInputError) -> None:
        """Find the rows that a refusal is about, or the limit of the provider."""
        if len(rows) == 1:
            self._refused[rows[0]] = error.message
            self._blamed.add(self._owners[rows[0]])
            return
        tokens = sum(estimated_tokens(self._texts[row]) for row in rows)
        if self._requests.learned.named(Limits(error.most_texts, error.most_tokens), len(rows), tokens):
            self._send_all(rows)
            return
        middle = len(rows) // 2
        taken = [self._send_all(half, suspect=True) for half in (rows[:middle], rows[middle:])]
        if all(taken):
            self._requests.learned.shown(len(rows), tokens)
