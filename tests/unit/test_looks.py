"""However many ask, the database is looked at once; what cannot be seen anew is told with its age."""

from __future__ import annotations

import threading

import pytest

from vecmig.errors import DatabaseUnreachable
from vecmig.serve.looks import EVERY, Looks


def test_who_comes_while_a_look_is_taken_shares_it() -> None:
    looked: list[None] = []
    began, go_on = threading.Event(), threading.Event()

    def look() -> int:
        began.set()
        go_on.wait(30)
        looked.append(None)
        return len(looked)

    looks, seen = Looks(look), []
    threads = [threading.Thread(target=lambda: seen.append(looks.latest().seen)) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert began.wait(30)
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert seen == [1] * 20
    assert looks.latest().seen == 1, "not again before its time"
    assert EVERY >= 30


def test_a_database_that_goes_away_leaves_what_was_seen_before() -> None:
    away = False

    def look() -> str:
        if away:
            raise DatabaseUnreachable("gone")
        return "seen"

    looks = Looks(look, every=0)
    first = looks.latest()
    away = True
    second = looks.latest()
    assert (first.seen, first.error) == ("seen", None)
    assert second.seen == "seen"
    assert isinstance(second.error, DatabaseUnreachable)
    assert second.age > first.age, "it says how old it is"
    away = False
    third = looks.latest()
    assert (third.seen, third.error) == ("seen", None)
    assert third.age < second.age + 1


@pytest.mark.parametrize("error", [DatabaseUnreachable("gone"), ZeroDivisionError()])
def test_the_first_look_may_fail(error: Exception) -> None:
    def look() -> str:
        raise error

    found = Looks(look).latest()
    assert (found.seen, found.error) == (None, error)
    assert found.age == float("inf")
