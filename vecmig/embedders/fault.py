"""Find out whose fault it is that a request fails: a text's, the request's for its size, or the provider's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from vecmig.embedders.embedder import Embedded
from vecmig.embedders.witness import Witness
from vecmig.errors import EmbedderError, PoisonInputError, TerminalEmbedderError, TransientEmbedderError

#: A sentence that every provider takes.
HARMLESS: Final = "The quick brown fox jumps over the lazy dog."
#: After this many failures in a row that may be the doing of several texts, another text tells whether they are, and
#: each is tried by itself.
_DOUBT_BATCH_AFTER: Final = 3
#: The same for one text: this many times in turn, because a provider that fails now and then, or is just coming back,
#: would have every text rejected.
_DOUBT_AFTER: Final = 5
_TURNS: Final = 5
#: Seconds before each further try of what was refused as if all were, as by a firewall; of one text that was refused;
#: and of one where the provider has taken before what it had refused, as one of several servers does.
_REFUSED_AGAIN: Final = (0.5, 2.0)
_ALONE_AGAIN: Final = (0.0,)
_FICKLE: Final = (0.0, 0.5, 1.0, 2.0, 2.0)
#: Seconds after each refusal of a text that the provider should take: one may be a firewall's mood.
_PROBES: Final = (0.5, 2.0)


class NoVector(PoisonInputError):
    """An answer has no vector that is one; ``found`` is what it has, and it is paid for."""

    def __init__(self, message: str, found: Embedded) -> None:
        super().__init__(message)
        self.found = found


class Send(Protocol):
    """Sends texts once; ``beside`` the requests that may be in flight where these wait for what it shows."""

    def __call__(self, texts: list[str], *, beside: bool = False) -> Embedded:
        """Send them, prompts applied."""


class Fault:
    """Judges the failures of one request, try after try."""

    def __init__(
        self, send: Send, witness: Witness, sleep: Callable[[float], None], *, harmless: str, texts: list[str]
    ) -> None:
        """Judge nothing yet.

        Args:
            send: sends texts once.
            witness: knows what the provider took.
            sleep: waits for some seconds.
            harmless: HARMLESS with the recipe's prompt.
            texts: what is sent, prompts applied.
        """
        self._send = send
        self._witness = witness
        self._sleep = sleep
        self._harmless = harmless
        self._texts = texts
        self._failures = 0

    def attempt(self, *, suspect: bool) -> Embedded:
        """Send the texts; of several that are ``suspect``, a part of a request that was refused, any failure is one."""
        self._witness.wait()
        alone = len(self._texts) == 1
        try:
            return self._send(self._texts)
        except TransientEmbedderError as error:
            self._failures = self._failures + 1 if error.may_be_input else 0
            if suspect and not alone and self._failures:
                raise PoisonInputError(error.message) from error
            patience = min(_DOUBT_AFTER if alone else _DOUBT_BATCH_AFTER, error.attempts or _DOUBT_AFTER)
            if not self._failures or self._failures % patience:
                raise
            return self._doubted(error)
        except NoVector as error:
            # where others get theirs these texts have none, and need not be bought again to see it
            self._require_well(error)
            self._count(error)
            return error.found
        except (PoisonInputError, TerminalEmbedderError) as error:
            if isinstance(error, TerminalEmbedderError) and not (error.of_request and self._witness.ever):
                raise
            if suspect and not alone:
                raise _of_request(error) from error
            return self._refused(error)

    def _refused(self, error: EmbedderError) -> Embedded:
        """Try again what was refused while the provider is well, until it is sure."""
        self._require_well(error)
        for seconds in self._waits(error):
            if seconds:
                # not right after it was shown to be well
                self._require_well(error)
                self._sleep(seconds)
            try:
                found = self._send(self._texts)
            except (PoisonInputError, TerminalEmbedderError) as again:
                error = again
            else:
                self._witness.fickle = True
                return found
        raise self._blamed(error)

    def _waits(self, error: EmbedderError) -> tuple[float, ...]:
        as_if_all = isinstance(error, TerminalEmbedderError)
        if len(self._texts) > 1:
            # each half is another try
            return _REFUSED_AGAIN[:1] if as_if_all else ()
        if self._witness.fickle:
            return _FICKLE
        return _REFUSED_AGAIN if as_if_all else _ALONE_AGAIN

    def _doubted(self, error: TransientEmbedderError) -> Embedded:
        """Find out whether it is the texts: the provider takes another one and fails for these, again and again."""
        for _ in range(_TURNS if len(self._texts) == 1 else 1):
            self._require_well(error)
            try:
                return self._send(self._texts)
            except TransientEmbedderError as again:
                if not again.may_be_input:
                    raise
                error = again
        raise self._blamed(error)

    def _blamed(self, error: EmbedderError) -> PoisonInputError:
        if len(self._texts) == 1:
            self._count(error)
        return _of_request(error)

    def _count(self, error: EmbedderError) -> None:
        """Count a text that is to blame; where it is one of many, another that passed before has to pass again."""
        self._witness.blame(lambda: self._take(self._witness.example or self._harmless, error))

    def _require_well(self, error: EmbedderError) -> None:
        """Make sure that the provider took something since, or takes what has nothing wrong with it.

        Raises:
            TransientEmbedderError: it fails for every text now.
            TerminalEmbedderError: it refuses every text.
        """

        def probe() -> None:
            for seconds, text in zip(_PROBES, self._samples(), strict=False):
                try:
                    self._take(text, error)
                except TerminalEmbedderError as every:
                    if not every.of_request or not self._witness.ever:
                        raise
                    self._sleep(seconds)
                else:
                    return
            self._take(self._harmless, error)

        self._witness.require(error.sent_at, probe)

    def _samples(self) -> tuple[str, str]:
        return self._harmless, self._witness.example or self._harmless

    def _take(self, text: str, error: EmbedderError) -> None:
        try:
            self._send([text], beside=True)
        except PoisonInputError as every:
            plainly = f"No text can be embedded, not even a plain sentence: {every.message.rstrip('.')}."
            raise TerminalEmbedderError(
                every.of_every or plainly, of_request=every.message, hint="Check model, dims and base_url in the recipe"
            ) from error
        except TransientEmbedderError as busy:
            # what was asked for first says more than what was asked to find out
            raise error if isinstance(error, TransientEmbedderError) else busy from None


def _of_request(error: EmbedderError) -> PoisonInputError:
    if isinstance(error, PoisonInputError):
        return error
    return PoisonInputError(error.of_request if isinstance(error, TerminalEmbedderError) else error.message)
