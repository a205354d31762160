"""Which record takes long is known while it does, and told no more often than anybody needs."""

from __future__ import annotations

from vecmig.backfill.slow import LONG, Slow

CUT = "its text of 30,000,000 characters is being cut into chunks"


class Watched(Slow):
    """Keeps what is told, on a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[str] = []
        super().__init__("documents", self.told.append, lambda: self.now)

    def wait(self, seconds: float) -> None:
        """Let time go by, with a look each second."""
        for _ in range(int(seconds)):
            self.now += 1
            self.look()


def _seen(slow: Watched) -> tuple[str | None, list[str]]:
    return slow.reason, slow.told


def test_a_record_is_named_once_it_takes_long() -> None:
    slow = Watched()
    with slow.step(("17",), CUT):
        slow.wait(LONG - 1)
        assert _seen(slow) == (None, [])
        slow.wait(1)
        named = f"record 17 of documents: {CUT}"
        assert _seen(slow) == (named, [named])
    assert _seen(slow) == (None, [named])
    slow.wait(2 * LONG)
    assert len(slow.told) == 1


def test_it_is_told_again_as_long_as_it_lasts_but_not_at_each_look() -> None:
    slow = Watched()
    with slow.step(("a", "b"), CUT):
        slow.wait(4 * LONG)
    assert slow.told == [f"record a, b of documents: {CUT}"] * 4


def test_the_record_that_takes_longest_is_named() -> None:
    slow = Watched()
    with slow.step(("1",), "first"):
        slow.wait(5)
        with slow.step(("2",), "second"):
            slow.wait(LONG)
            assert slow.reason == "record 1 of documents: first"
        slow.wait(LONG)
    with slow.step(("3",), "third"):
        slow.wait(LONG - 1)
        assert slow.reason is None


def test_many_short_records_are_not_told_of() -> None:
    slow = Watched()
    for key in range(100):
        with slow.step((str(key),), CUT):
            slow.wait(1)
    assert slow.told == []
