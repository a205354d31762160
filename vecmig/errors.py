"""Every way vecmig can fail, as a tree; the exit code stands on the class.

VecmigError                 1    failed
├── UsageError              2    wrong words on the command line
│   ├── ConfigError         2    vecmig.ini or collections.yaml
│   │   ├── RecipeMissing        a collection asks for a tag that has no recipe
│   │   ├── SourceMissing        the table or view of a collection is not there
│   │   └── UnsteadyExpression   text or where would give something else each time
│   ├── TagError            2    a tag that does not parse
│   ├── RecipeError         2    a recipe that disagrees with its tag, or with the recorded one
│   └── ScriptError         2    the script directory, the graph, or a script
├── GateRefused             3    the data is not ready for cutover
├── Pending                 4    something is left to do
├── LockHeld                5    another runner works on the collection
├── DatabaseUnreachable     6
├── DatabaseError           1    the database refused a statement
│   ├── Blocked                  somebody else held a lock for too long
│   ├── OutOfRoom                the server's disk is full, or the pooler before it is
│   ├── NotRecorded         2    the database knows no collection or tag of that name
│   └── ConditionError      2    the condition of a search does not work
├── EmbedderError           7    the provider failed; a later run resumes
│   ├── BudgetSpent              the next request would pass the budget
│   ├── TransientEmbedderError   worth another try
│   ├── TerminalEmbedderError    no try will help: key, quota, unknown model
│   └── PoisonInputError         this request holds an input the provider refuses, or is too large
└── Interrupted           130    stopped by a signal; a later run resumes
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from vecmig.check import Check

#: The exit codes, the worst first: of several failures, the one that a person has to see to before all others, then
#: what running again may help, and last what is no failure of a run.
WORST_FIRST: Final = (130, 6, 5, 1, 2, 7, 3, 4)


class VecmigError(Exception):
    """Say what happened (``message``), how things stand now (``state``), and what to run next (``hint``)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, state: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.state = state
        self.hint = hint
        #: Of a run that went on with other collections: what it came to there, as it would have been returned.
        self.done: Any = None


class UsageError(VecmigError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class ConfigError(UsageError):
    """vecmig.ini, pyproject.toml or collections.yaml cannot be used as it stands."""


class RecipeMissing(ConfigError):
    """A collection asks for a tag that has no recipe in collections.yaml, and nothing else is wrong there."""


class SourceMissing(ConfigError):
    """The table or view of a collection is not there; it may come back."""


class UnsteadyExpression(ConfigError):
    """``text`` or ``where`` of a collection gives something else each time it is read."""


class TagError(UsageError):
    """A tag does not follow ``model@version/dim-N/chunk-…/norm-…``."""


class RecipeError(UsageError):
    """A recipe disagrees with its tag, or with what the database recorded for it."""


class ScriptError(UsageError):
    """The script directory, its graph, or one of its scripts cannot be used."""


class GateRefused(VecmigError):
    """A gate refused; ``checks`` are those that it judged, where it judged several."""

    exit_code = 3

    def __init__(self, message: str, *, checks: tuple[Check, ...] = (), state: str = "", hint: str = "") -> None:
        super().__init__(message, state=state, hint=hint)
        self.checks = checks

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold, or were not measured."""
        return tuple(check for check in self.checks if not check.passed)


class Pending(VecmigError):
    """Something is pending."""

    exit_code = 4


class LockHeld(VecmigError):
    """Another runner works on this collection."""

    exit_code = 5


class DatabaseUnreachable(VecmigError):
    """The database cannot be reached."""

    exit_code = 6


class DatabaseError(VecmigError):
    """The database refused a statement."""


class Blocked(DatabaseError):
    """Somebody else held a lock for longer than ``lock_wait``."""


class OutOfRoom(DatabaseError):
    """The server's disk is full, or the pooler in front of it is, whichever collection it is for."""


class NotRecorded(DatabaseError, UsageError):
    """The database knows no collection, or no tag, of the name that was asked for."""

    exit_code = UsageError.exit_code


class ConditionError(DatabaseError, UsageError):
    """The database refuses the condition of a search, or the values that came with it."""

    exit_code = UsageError.exit_code


class EmbedderError(VecmigError):
    """The embedder failed; what was written stays, and the next run goes on from there."""

    exit_code = 7
    #: Whether the provider surely charges nothing for the request: it was refused, or never sent.
    unbilled: bool = False
    #: When the request was sent, by the clock of its limiter.
    sent_at: float = 0.0


class BudgetSpent(EmbedderError):
    """The next request would pass what this may cost."""


class TransientEmbedderError(EmbedderError):
    """The provider is busy or unreachable for now: back off and try again."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        attempts: int | None = None,
        may_be_input: bool = False,
        state: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, state=state, hint=hint)
        #: Seconds that the provider asks to wait.
        self.retry_after = retry_after
        #: After this many failures in a row no further one will help; None where waiting always may.
        self.attempts = attempts
        #: Whether one of the texts may be the reason: some servers answer an input that they cannot take with a 500.
        self.may_be_input = may_be_input


class TerminalEmbedderError(EmbedderError):
    """The provider will refuse every further request: wrong key, no quota, unknown model, wrong dims."""

    def __init__(self, message: str, *, of_request: str = "", state: str = "", hint: str = "") -> None:
        super().__init__(message, state=state, hint=hint)
        #: The message where the provider takes other requests, as a firewall that says 403 to one text; empty where it
        #: is about all of them whatever happens to others.
        self.of_request = of_request


class PoisonInputError(EmbedderError):
    """The provider refuses an input of this request and would accept the others, or the request is too large."""

    def __init__(
        self,
        message: str,
        *,
        most_texts: int | None = None,
        most_tokens: int | None = None,
        of_every: str = "",
        state: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, state=state, hint=hint)
        #: The message where every input is refused, even a plain sentence; empty where that is for others to say.
        self.of_every = of_every
        #: The most texts, and the most tokens, that the provider says it takes in one request.
        self.most_texts = most_texts
        self.most_tokens = most_tokens


class Interrupted(VecmigError):
    """Stopped by a signal after finishing what was in flight."""

    exit_code = 130


def together(errors: Iterable[VecmigError]) -> VecmigError:
    """Return the worst of several errors, with what the others say; of equal ones the first."""
    worst, *others = sorted(errors, key=lambda error: WORST_FIRST.index(error.exit_code))
    worst.state = "\n".join(filter(None, [worst.state, *(other.message for other in others)]))
    worst.hint = "\n".join(dict.fromkeys(filter(None, [worst.hint, *(other.hint for other in others)])))
    return worst
