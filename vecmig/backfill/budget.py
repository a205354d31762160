"""Count what requests cost in the ledger, and let none through that would pass the budget."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from vecmig.embedders import Abandoned
from vecmig.errors import BudgetSpent, VecmigError
from vecmig.ledger.control import What
from vecmig.ledger.spend import correct, reserve, spent
from vecmig.model.recipe import cost_usd
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection
from vecmig.text import money


class RunBudget:
    """What one run may cost in all, whatever it works on. Any thread may take from it."""

    def __init__(self, usd: float) -> None:
        self._usd = usd
        self._spent = 0.0
        self._turn = threading.Lock()

    def take(self, usd: float) -> None:
        """Take the cost of a request before it is sent.

        Raises:
            BudgetSpent: it is not there.
        """
        with self._turn:
            if self._spent + usd > self._usd:
                raise BudgetSpent(
                    f"{money(self._spent)} of the {money(self._usd)} that this run may cost is "
                    f"spent, and the next request may cost {money(usd)}.",
                    hint="To go on, run it again, with a higher --max-cost if need be.",
                )
            self._spent += usd

    def correct(self, usd: float) -> None:
        """Add what a request cost beyond what was taken; negative where it was less."""
        with self._turn:
            self._spent += usd


@dataclass(frozen=True, slots=True)
class CostAccount:
    """Whose cost it is, and how much it may be."""

    revision: str
    what: What
    #: US dollars that the revision may cost in all by what is being done; None for no limit.
    budget: float | None = None
    #: What the run may cost in all; None for no limit.
    run_budget: RunBudget | None = None


class Budget:
    """A context that is the ``Spend`` of a limiter.

    A request's estimate is entered before it is sent, in one statement that refuses to pass the budget, so the
    processes of a fleet share one budget, and what a killed run had in flight counts as spent. An answer corrects it.
    """

    def __init__(
        self,
        session: ReconnectingSession,
        schema: str,
        account: CostAccount,
        *,
        price: float,
    ) -> None:
        """Begin to count.

        Args:
            session: a session of its own.
            schema: where vecmig's tables are.
            account: whose cost it is, and how much it may be.
            price: USD per million tokens.
        """
        self._session = session
        self._schema = schema
        self._revision = account.revision
        self._what = account.what
        self._price = price
        self._budget = account.budget
        self._run_budget = account.run_budget
        #: psycopg's connections are shared by no two statements, and ReconnectingSession by no two threads.
        self._turn = threading.Lock()
        self._owed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # what cannot be entered any more is no reason to hide how the run ended
        with self._turn, suppress(VecmigError, Abandoned):
            self._pay_off()
        self._session.__exit__(kind, error, trace)

    @property
    def usd(self) -> float:
        """What the revision has cost so far."""
        with self._turn:
            self._pay_off()
            entries = self._session.run(lambda connection: spent(connection, self._schema))
        return sum(entry.usd for entry in entries if (entry.revision, entry.what) == (self._revision, self._what))

    def reserve(self, tokens: int) -> None:
        """Enter a request before it is sent.

        Raises:
            BudgetSpent: it would pass the budget.
        """
        usd = self._usd(tokens)
        if self._run_budget is not None:
            self._run_budget.take(usd)
        with self._turn:
            self._pay_off()
            total = self._session.run(
                lambda connection: reserve(
                    connection, self._schema, self._revision, self._what, tokens=tokens, usd=usd, budget=self._budget
                )
            )
        if total is None:
            if self._run_budget is not None:
                self._run_budget.correct(-usd)
            raise self._refused(usd)

    def settle(self, reserved: int, taken: int) -> None:
        """Correct a request by what its answer says; written with the next one."""
        if self._run_budget is not None:
            self._run_budget.correct(self._usd(taken - reserved))
        with self._turn:
            self._owed += taken - reserved

    def _pay_off(self) -> None:
        owed, self._owed = self._owed, 0

        def enter(connection: Connection) -> None:
            nonlocal owed
            # once it may have been entered, only what makes the sum larger is entered again
            now, owed = owed, max(owed, 0)
            if now:
                correct(connection, self._schema, self._revision, self._what, tokens=now, usd=self._usd(now))

        if owed:
            self._session.run(enter)

    def _usd(self, tokens: int) -> float:
        return cost_usd(self._price, tokens)

    def _refused(self, usd: float) -> BudgetSpent:
        assert self._budget is not None, "without one nothing is refused"
        return BudgetSpent(
            f"{money(self.usd)} of the budget of {money(self._budget)} for revision "
            f"{self._revision} is spent, and the next request may cost {money(usd)}.",
            hint="To go on, raise budget_usd in the recipe or give --max-cost, and run the same command again.",
        )
