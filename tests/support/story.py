"""The story of every application that has vectors already: adopted, migrated under its writes, read, rolled back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from support.adopting import adopts
from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from support.waiting import wait_for
from vecmig.reader import Reader

#: Where the vectors of an adopted tag may be: copied, or in place.
HOMES = ("partition", "column")
#: How many documents the application has in the beginning, numbered from 1.
COUNT = 20


@dataclass(frozen=True)
class Client:
    """What an application does by itself: nothing of it knows of vecmig."""

    add: Callable[[int], Any]
    #: Give a document the text of another number.
    edit: Callable[[int, int], Any]
    delete: Callable[[int], Any]
    #: The id that its own search gives to the number whose text it asks for.
    find: Callable[[int], str]
    id_of: Callable[[int], str]


def text_of(number: int) -> str:
    """Return the text of a document."""
    return f"page {number} of the handbook, 100 % worth reading"


#: Asks for the text of a number by what docs/adopt.md changes; returns the id of the nearest.
Ask = Callable[[int], str]
Reading = Callable[[Reader], AbstractContextManager[Ask]]


def tell_the_story(
    lab: Lab, model: Model, client: Client, reading: Reading, *, home: str = "partition", expression: str = "embedding"
) -> None:
    """Adopt, migrate while the client writes, read after the cutover, roll back; nothing that it embedded is bought."""
    adopts(lab, f"m.adopt({expression!r}, home={home!r})")
    lab.upgrade("r1")
    assert (model.total(), lab.cover(SMALL).fresh) == (0, COUNT)
    with lab.reader() as reader, reading(reader) as ask:
        assert ask(7) == client.id_of(7)
        with writing_beside(model, client) as written:
            lab.upgrade("r2", until="backfill")
        assert written == [101, 102, 103]
        # beside which a sync --watch would be running: a rollback wants the old tag complete
        lab.sync()
        lab.upgrade("r2")
        wait_for(lambda: reader.live_tag(lab.name) == LARGE)
        client.edit(3, 300)
        client.delete(4)
        client.add(200)
        lab.sync()
        for number, id_ in ((7, 7), (101, 101), (103, 103), (200, 200), (300, 3)):
            assert ask(number) == client.id_of(id_)
            # and what it searched itself all along
            assert client.find(number) == client.id_of(id_)
        assert ask(4) != client.id_of(4)
        # under the adopted tag, what it wrote was taken over; under the next one, each text was embedded once
        assert model.total(64) == 0
        assert all(count == 1 for count in model.embedded.values())
        coverage = {tag: lab.cover(tag) for tag in (SMALL, LARGE)}
        assert {(c.fresh, c.eligible, c.stale, c.missing) for c in coverage.values()} == {(23, 23, 0, 0)}
        lab.downgrade()
        wait_for(lambda: reader.live_tag(lab.name) == SMALL)
        for number, id_ in ((7, 7), (102, 102), (200, 200), (300, 3)):
            assert ask(number) == client.id_of(id_)
    assert model.total(64) == 0


@contextmanager
def writing_beside(model: Model, client: Client) -> Iterator[list[int]]:
    """Let the client add three documents while vectors are made, each in a moment of its own."""
    turn = threading.Lock()
    written: list[int] = []

    def write(texts: list[str]) -> None:
        with turn:
            if len(written) < 3:
                written.append(101 + len(written))
                client.add(written[-1])

    model.before = write
    try:
        yield written
    finally:
        model.before = lambda texts: None
