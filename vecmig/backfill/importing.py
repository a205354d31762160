"""Import the vectors of a file: each is written to the records that have its text and no fresh vector."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Final

from vecmig.backfill.embed import Answer
from vecmig.backfill.group_commit import COUNT, GroupCommit
from vecmig.backfill.run_options import RunOptions
from vecmig.backfill.supervisor import Supervisor
from vecmig.chunking import chunker
from vecmig.embedders import Abandoned, Limiter, row_problems
from vecmig.errors import Interrupted
from vecmig.events import Listener, TransferProgress, Waiting
from vecmig.freshness.stamps import Stamps
from vecmig.freshness.steadiness import refuse_unsteady_texts
from vecmig.homes import (
    EmbeddedRecord,
    Page,
    Vector,
    VectorFile,
    WantedRecord,
    find_wanted,
    gather_wanted,
    known_texts,
    texts_of,
)
from vecmig.model.recipe import Recipe
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection, Database
from vecmig.text import counted

#: Bytes and vectors of the file that are read at once, and bytes and records that are written at once, at most.
_PAGE: Final = 4 * 2**20
_MOST_VECTORS: Final = 2_000
_BATCH: Final = 6 * 2**20
_MOST_RECORDS: Final = 1_000
#: Seconds between two reports of progress.
_REPORT_EVERY: Final = 0.25


@dataclass(slots=True)
class Taken:
    """What became of the texts of a file: each was taken, or is counted under one reason."""

    #: Texts whose vectors were written, and the records that have them now.
    texts: int = 0
    records: int = 0
    #: Texts that no record here has, and those whose records have their vectors already.
    unknown: int = 0
    present: int = 0
    #: Texts with a vector that cannot be stored or found, and those that are cut into another number of chunks here.
    unsound: int = 0
    mismatched: int = 0
    #: Records whose text changed meanwhile, or that the application held; they stay pending.
    changed: int = 0

    def add(self, other: Taken) -> None:
        """Count what became of more of them."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(slots=True)
class Import:
    """The import of one file into one tag."""

    database: Database
    stamps: Stamps
    recipe: Recipe
    file: VectorFile
    options: RunOptions
    #: Told of the progress, from this thread; only Waiting may come from another one.
    listener: Listener
    taken: Taken = field(default_factory=Taken, init=False)
    #: Batches on their way: how many records each has, and of how many it wrote the vectors.
    _written: deque[tuple[int, Future[int]]] = field(default_factory=deque, init=False)
    _limiter: Limiter = field(default_factory=lambda: Limiter(1), init=False)
    _begun: bool = field(default=False, init=False)
    _done: int = field(default=0, init=False)
    _reported: float = field(default=0.0, init=False)

    def run(self, begin: Callable[[], None]) -> Taken:
        """Take what the records here lack; running it again goes on.

        Args:
            begin: called before the first vector is written, if there is one.

        Raises:
            UnsteadyExpression: a text is another one each time it is read; nothing was written.
            DatabaseUnreachable: the connection broke and did not come back; what was written stays.
            LockHeld: another runner took over meanwhile.
            Interrupted: by SIGINT; what was written stays.
        """
        supervisor = Supervisor(
            self.database,
            self.options,
            self._limiter,
            concurrency=1,
            collection=self.stamps.source.collection.name,
            listener=self.listener,
        )
        try:
            with supervisor:
                self._take(begin)
        except Abandoned:
            assert supervisor.failure is not None, "only the supervisor ends it"
            raise supervisor.failure from None
        except KeyboardInterrupt:
            raise Interrupted(
                f"Interrupted after {counted(self.taken.records, 'record')}.",
                state="What was written stays.",
                hint="To go on, run the same command again.",
            ) from None
        return self.taken

    def _take(self, begin: Callable[[], None]) -> None:
        writers = GroupCommit(self.stamps, self._session)
        with ExitStack() as stack:
            # it opens, and gathers, with the first page
            session = self._session(self._prepare)
            stack.push(session)
            stack.enter_context(writers)
            pool = stack.enter_context(ThreadPoolExecutor(COUNT, thread_name_prefix="vecmig-import"))

            def write(batch: list[EmbeddedRecord]) -> None:
                if not self._begun:
                    begin()
                    self._begun = True
                self._written.append((len(batch), pool.submit(writers.write, Answer(batch, [], 0))))
                self._collect(most=COUNT)
                self._limiter.pace(len(batch))

            try:
                for page in self.file.pages(min(_PAGE, _MOST_VECTORS * self.file.header.row.itemsize)):
                    self._limiter.stand_by()
                    self.taken.add(session.run(partial(self._take_page, page=page, write=write)))
                    self._report(len(page.vectors))
            finally:
                self._collect()

    def _session(self, prepare: Callable[[Connection], None]) -> ReconnectingSession:
        return ReconnectingSession(
            self.database,
            wait=self.options.reconnect_wait,
            on_wait=lambda reason, seconds: self.listener(Waiting(reason.removesuffix("."), seconds)),
            prepare=prepare,
            sleep=self._limiter.sleep,
        )

    def _prepare(self, connection: Connection) -> None:
        """Gather what is wanted in a session, and again in another one where that was lost."""
        self._collect()
        refuse_unsteady_texts(connection, self.stamps)
        gather_wanted(connection, self.stamps, self.file.header.text_hash)

    def _collect(self, most: int = 0) -> None:
        """Count what was written, until no more than ``most`` batches are on their way."""
        while len(self._written) > most:
            size, written = self._written.popleft()
            records = written.result()
            self.taken.records += records
            self.taken.changed += size - records

    def _report(self, vectors: int) -> None:
        self._done += vectors
        if time.monotonic() - self._reported >= _REPORT_EVERY:
            self._reported = time.monotonic()
            name = self.stamps.source.collection.name
            self.listener(TransferProgress(name, self.stamps.tag, "import", self._done, self.file.vectors))

    def _take_page(self, connection: Connection, *, page: Page, write: Callable[[list[EmbeddedRecord]], None]) -> Taken:
        """Have the vectors of some texts written to the records that lack them, and count what is not taken."""
        chunked = self.stamps.chunks
        texts = self._sound(page)
        hashes = [text.hash for text in texts]
        wanted: set[int] = set()
        gone = 0
        for found in find_wanted(connection, self.stamps, hashes):
            first = sorted({at for at, _ in found} - wanted)
            wanted.update(first)
            if chunked:
                self._cut(connection, texts, first)
            ready = [(texts[at], record) for at, record in found if not chunked or texts[at].fits]
            gone += sum(texts[at].chunks is None for at, _ in found) if chunked else 0
            for batch in _batches(ready):
                write(batch)
        known = known_texts(connection, [hash_ for at, hash_ in enumerate(hashes) if at not in wanted])
        mismatched = sum(not texts[at].fits and texts[at].chunks is not None for at in wanted) if chunked else 0
        return Taken(
            texts=len(wanted) - mismatched,
            unknown=len(hashes) - len(wanted) - len(known),
            present=len(known),
            unsound=len(page.hashes) - len(texts),
            mismatched=mismatched,
            changed=gone,
        )

    def _sound(self, page: Page) -> list[_Text]:
        """Return the texts whose vectors are all such as the database takes and finds."""
        storage, unit = self.stamps.source.collection.storage, self.recipe.normalise != "none"
        problems = row_problems(page.vectors, storage=storage, unit=unit)
        spans = zip(page.hashes, page.starts, page.starts[1:], strict=False)
        return [
            _Text(hash_, page.vectors[start:end])
            for hash_, start, end in spans
            if not problems or problems.keys().isdisjoint(range(start, end))
        ]

    def _cut(self, connection: Connection, texts: Sequence[_Text], places: Sequence[int]) -> None:
        """Cut some texts as the recipe does; one that no record has any more is left without chunks."""
        recipe = self.recipe
        cut = chunker(recipe.chunk, provider=recipe.provider, model=recipe.model)
        for at, text in texts_of(connection, self.stamps, [texts[place].hash for place in places]).items():
            texts[places[at]].chunks = tuple(cut(text))


@dataclass(slots=True)
class _Text:
    """A text of the file, and its chunks where it was cut."""

    hash: str
    #: Of shape (chunks, dims).
    vectors: Vector
    chunks: tuple[str, ...] | None = None

    @property
    def fits(self) -> bool:
        """Whether there is a vector for each of its chunks."""
        return self.chunks is not None and len(self.chunks) == len(self.vectors)


def _batches(ready: Sequence[tuple[_Text, WantedRecord]]) -> Iterator[list[EmbeddedRecord]]:
    """Yield the records with their vectors, in batches that are written at once."""
    batch: list[EmbeddedRecord] = []
    size = 0
    for text, (key, source_hash, new) in ready:
        batch.append(EmbeddedRecord(key, source_hash, text.vectors, text.chunks, new))
        size += text.vectors.nbytes
        if size >= _BATCH or len(batch) == _MOST_RECORDS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
