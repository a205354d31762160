"""A record that takes long is named while it does, by the run and in its status, and does not outlast the run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from support.embedding import Model
from support.lab import CHUNKED, Lab, recipe
from support.waiting import wait_for
from vecmig import runner
from vecmig.backfill import batches, slow
from vecmig.chunking import Chunker
from vecmig.errors import Interrupted, TerminalEmbedderError
from vecmig.events import Waiting

TEXT = "title 1\n\nbody 1"
CUT = f"record 1 of documents: its text of {len(TEXT)} characters is being cut into chunks"


@pytest.fixture
def long(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A project that is about to embed chunks, and takes any record for one that takes long."""
    monkeypatch.setattr(slow, "LONG", 0.0)
    lab = lab.write(chain=(CHUNKED,), recipes={CHUNKED: recipe(CHUNKED, max_batch=2)})
    lab.upgrade(until="expand")
    return lab


def _cut_by(monkeypatch: pytest.MonkeyPatch, cut: Callable[[str], Iterator[str]]) -> None:
    def chunker(*args: object, **kwargs: object) -> Chunker:
        return cut

    monkeypatch.setattr(batches, "chunker", chunker)


def _reasons(lab: Lab) -> list[tuple[str, str | None]]:
    return [(run.state, run.reason) for run in runner.controlled(lab.config)[lab.name].runs]


def _told(lab: Lab) -> list[str]:
    return [event.reason for event in lab.events if isinstance(event, Waiting)]


def test_the_record_that_is_being_cut_is_named_meanwhile(long: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()

    def cut(text: str) -> Iterator[str]:
        if text == TEXT:
            assert goes_on.wait(60)
        yield text

    _cut_by(monkeypatch, cut)
    run = threading.Thread(target=long.backfill, daemon=True)
    run.start()
    try:
        wait_for(lambda: _reasons(long) == [("running", CUT)] and CUT in _told(long))
    finally:
        goes_on.set()
        run.join(60)
    assert long.cover(CHUNKED).share == 1.0


def test_the_record_whose_chunks_take_several_requests_is_named_meanwhile(
    long: Lab, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = f"record 1 of documents: its {len(TEXT)} chunks are being embedded and written"
    goes_on = threading.Event()

    def before(texts: list[str]) -> None:
        if texts[0] == "0 t":
            assert goes_on.wait(60)

    model.before = before
    _cut_by(monkeypatch, lambda text: (f"{at} {sign}" for at, sign in enumerate(text if text == TEXT else "t")))
    run = threading.Thread(target=long.backfill, daemon=True)
    run.start()
    try:
        wait_for(lambda: ("running", embedded) in _reasons(long) and embedded in _told(long))
    finally:
        goes_on.set()
        run.join(60)
    assert long.cover(CHUNKED).share == 1.0
    assert long.sql("SELECT count(*) FROM vecmig.documents_vectors WHERE id = 1") == [(len(TEXT),)]


def test_a_run_that_is_interrupted_does_not_wait_for_a_text_to_be_cut(
    long: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(text: str) -> Iterator[str]:
        yield "a chunk"
        if text == TEXT:
            signal.raise_signal(signal.SIGINT)
            while True:
                yield "another chunk"

    _cut_by(monkeypatch, cut)
    with pytest.raises(Interrupted):
        long.backfill()
    assert _reasons(long) == []


def test_what_ends_a_run_while_a_text_is_cut_is_what_it_is_said_to_be(
    long: Lab, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def before(texts: list[str]) -> None:
        asked.set()
        raise TerminalEmbedderError("The key is wrong.")

    def cut(text: str) -> Iterator[str]:
        yield text
        # the last one, which the others do not wait for
        while text.startswith("title 20\n"):
            assert asked.wait(60)
            yield "another chunk"

    model.before = before
    _cut_by(monkeypatch, cut)
    with pytest.raises(TerminalEmbedderError, match="The key is wrong"):
        long.backfill()
