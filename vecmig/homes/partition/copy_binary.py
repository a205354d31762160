"""Rows of a vectors table in the binary form of COPY: laid out by numpy, so that no number becomes a Python object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vecmig.model.collection import Storage

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
#: Bytes of vectors that are laid out at once, where a piece is not all of them.
_PIECE: Final = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors to write, all of one tag, record after record.

    Formatting the numbers as text would cost 25 times as much as sending them (1,342 rows/s against 32,700 at 1,536
    dims). The layout is that of pgvector's ``vector_send`` and ``halfvec_send``.
    """

    #: In the encoding of the connection, like the texts.
    tag: bytes
    #: For each key column, its values in PostgreSQL's binary form, one a record.
    keys: Sequence[Sequence[bytes]]
    #: The hash of each record's text, as hexadecimal digits.
    hashes: Sequence[str]
    #: The vectors of each record, of shape (chunks, dims).
    vectors: Sequence[NDArray[np.float32]]
    #: What was embedded, a text for each vector; None where the tag does not chunk.
    texts: Sequence[bytes] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns in the order in which they are sent, behind the tag and the key."""
        return ("chunk_text", "chunk", "chunks", "source_hash", "embedding")[0 if self.texts is not None else 3 :]

    def pieces(self, storage: Storage) -> Iterator[bytes | memoryview]:
        """Give, piece by piece, everything that COPY … WITH (FORMAT binary) reads."""
        yield _SIGNATURE
        width = 1 + len(self.keys) + len(self.columns)
        head = width.to_bytes(2, "big") + _field(self.tag)
        # an empty text is a key as well, and has no width that numpy could lay out
        widths = [set(map(len, column)) for column in self.keys]
        if self.texts is None and all(len(found) == 1 and 0 not in found for found in widths):
            yield self._layout(storage, 0, len(self.vectors), head).data.cast("B")
        else:
            yield from self._joined(storage, head)
        yield _END

    def _joined(self, storage: Storage, head: bytes) -> Iterator[bytes]:
        """Put rows together whose columns differ in width, some at a time: one record may have a GB of vectors."""
        keys = [head + b"".join(map(_field, key)) for key in zip(*self.keys, strict=True)]
        starts = [key for key, own in zip(keys, self.vectors, strict=True) for _ in own]
        at_once = max(1, _PIECE // (4 * self.vectors[0].shape[1]))
        for first in range(0, len(starts), at_once):
            last = min(first + at_once, len(starts))
            tails = self._layout(storage, first, last)
            size, data = tails.dtype.itemsize, tails.data.cast("B")
            columns: list[Iterable[bytes | memoryview]] = [starts[first:last]]
            if self.texts is not None:
                columns.append(map(_field, self.texts[first:last]))
            columns.append(data[at : at + size] for at in range(0, len(data), size))
            yield b"".join(chain.from_iterable(zip(*columns, strict=True)))

    def _layout(self, storage: Storage, first: int, last: int, head: bytes = b"") -> NDArray[Any]:
        """Lay out the columns of fixed width of some rows: one structure a vector.

        With a head, the key is among them: then these are all rows, one a record.
        """
        counts = np.fromiter(map(len, self.vectors), np.intp, len(self.vectors))
        hashes = bytes.fromhex("".join(self.hashes).replace("-", ""))
        values: list[tuple[str, Any, int]] = []
        if head:
            values += [(f"k{i}", b"".join(column), len(column[0])) for i, column in enumerate(self.keys)]
        if self.texts is not None:
            numbers = (np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts))[first:last]
            chunks = np.repeat(counts, counts)[first:last]
            values += [("chunk", numbers.astype(">i4"), 4), ("chunks", chunks.astype(">i4"), 4)]
        values += [("source_hash", np.repeat(np.frombuffer(hashes, "V16"), counts)[first:last], 16)]
        dims, bytes_ = self.vectors[0].shape[1], 4 if storage == "vector" else 2
        fields: list[Any] = [("head", f"V{len(head)}")] if head else []
        for name, _, size in values:
            fields += [(f"{name} length", ">i4"), (name, f"V{size}")]
        fields += [("length", ">i4"), ("dims", ">i2"), ("unused", ">i2"), ("data", f">f{bytes_}", (dims,))]
        rows = np.empty(last - first, dtype=fields)
        if head:
            rows["head"] = np.void(head)
        for name, data, size in values:
            rows[f"{name} length"] = size
            rows[name] = np.frombuffer(data, f"V{size}")
        rows["length"], rows["dims"], rows["unused"] = 4 + bytes_ * dims, dims, 0
        np.concatenate(list(self._vectors(first, last)), out=rows["data"], casting="same_kind")
        return rows

    def _vectors(self, first: int, last: int) -> Iterator[NDArray[np.float32]]:
        end = 0
        for own in self.vectors:
            start, end = end, end + len(own)
            if start < last and first < end:
                yield own[max(first - start, 0) : last - start]


def _field(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value
