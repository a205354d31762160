"""The file in which a tag's vectors travel from one database to another: keyed by the hashes of their texts, checked.

A first line names the format, a second one is the header as JSON, then come rows as COPY BINARY has them, and at the
end the SHA-256 of all that. No text, no key and nothing else of a record is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from vecmig.errors import RecipeError, TagError, UsageError, VecmigError
from vecmig.model.collection import Storage
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag

TextHash = Literal["md5", "sha256"]

_FORMAT: Final = 1
_MAGIC: Final = b"vecmig vectors "
#: The first bytes of what COPY BINARY writes, and the last ones.
_BEGINNING: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
#: Bytes of the footer, of a header at most, and of what is read at once.
_DIGEST: Final = 32
_LONGEST_HEADER: Final = 16 * 2**20
_PIECE: Final = 2**20
_NOTHING: Final = "Nothing was changed."


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its vectors."""

    collection: str
    tag: str
    fingerprint: str
    #: The fields of the recipe that decide what a vector looks like.
    recipe: Mapping[str, Any]
    dims: int
    storage: Storage
    #: What the hashes of the texts are: MD5, or the first 128 bits of SHA-256.
    text_hash: TextHash
    #: The version of vecmig that wrote it.
    vecmig: str
    #: The canary of the tag, whose texts are vecmig's own; None where none was kept.
    canary: Mapping[str, Any] | None = None

    @property
    def made_by(self) -> Recipe:
        """The recipe that made the vectors; how its provider is reached is not known."""
        return Recipe.from_mapping(Tag.parse(self.tag), self.recipe)

    @property
    def row(self) -> np.dtype[Any]:
        """A row of the body, of fixed width."""
        sizes: list[Any] = [("columns", ">i2"), ("hash length", ">i4"), ("hash", "V16")]
        sizes += [("chunk length", ">i4"), ("chunk", ">i4"), ("chunks length", ">i4"), ("chunks", ">i4")]
        number = ">f4" if self.storage == "vector" else ">f2"
        sizes += [("length", ">i4"), ("dims", ">i2"), ("unused", ">i2"), ("data", number, (self.dims,))]
        return np.dtype(sizes)

    def to_bytes(self) -> bytes:
        """Return the two lines with which the file begins."""
        return b"%s%d\n%s\n" % (_MAGIC, _FORMAT, json.dumps(asdict(self), sort_keys=True).encode())

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read it from its line.

        Raises:
            ValueError, KeyError, TypeError, RecipeError, TagError: it is none.
        """
        data = json.loads(text)
        header = cls(**{field.name: data[field.name] for field in fields(cls)})
        recipe = header.made_by
        sound = header.storage in ("vector", "halfvec") and header.text_hash in ("md5", "sha256")
        if not sound or (recipe.dims, recipe.fingerprint) != (header.dims, header.fingerprint):
            raise ValueError
        if header.canary is not None:
            shape = (len(header.canary["texts"]), header.dims)
            if np.asarray(header.canary["vectors"], dtype=np.float64).shape != shape:
                raise ValueError
        return header


def header_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return what decides the vectors of a recipe as a header has it: not how its provider is reached, or paid."""
    mapping = recipe.to_mapping()
    return {field.name: mapping[field.name] for field in fields(Recipe) if field.name in mapping}


class Body:
    """Reads the rows of a body, piece by piece, and sees to it that each record has all of its vectors."""

    def __init__(self, header: Header) -> None:
        self.vectors = 0
        self.texts = 0
        #: What was not read yet: a part of a row, or the end.
        self._rest = b""
        self._begun = False
        self._row = header.row
        self._expected = {
            "columns": 4,
            "hash length": 16,
            "chunk length": 4,
            "chunks length": 4,
            "length": 4 + header.dims * self._row["data"].base.itemsize,
            "dims": header.dims,
            "unused": 0,
        }
        self._last = np.zeros(1, self._row)

    def feed(self, piece: bytes) -> NDArray[Any]:
        """Return the rows that are complete with this piece.

        Raises:
            ValueError: they are none, or some that belong together do not come together.
        """
        data, start = self._rest + piece, 0
        if not self._begun:
            start = len(_BEGINNING)
            if len(data) < start:
                self._rest = data
                return np.empty(0, self._row)
            if not data.startswith(_BEGINNING):
                raise ValueError
            self._begun = True
        count = (len(data) - start) // self._row.itemsize
        end = start + count * self._row.itemsize
        rows = np.frombuffer(data[start:end], self._row)
        self._rest = data[end:]
        if count:
            self._check(rows)
        return rows

    def finish(self) -> None:
        """See whether it ends here.

        Raises:
            ValueError: it does not.
        """
        if (
            not self._begun
            or self._rest != _END
            or self._last["chunk"][0] + 1 != self._last["chunks"][0] + (0 if self.vectors else 1)
        ):
            raise ValueError

    def _check(self, rows: NDArray[Any]) -> None:
        if any((rows[name] != value).any() for name, value in self._expected.items()):
            raise ValueError
        chunk, chunks = rows["chunk"].astype(np.int64), rows["chunks"].astype(np.int64)
        before = np.concatenate([self._last[["hash", "chunk", "chunks"]], rows[["hash", "chunk", "chunks"]][:-1]])
        first = chunk == 0
        follows = (chunk == before["chunk"].astype(np.int64) + 1) & (chunks == before["chunks"])
        follows &= rows["hash"] == before["hash"]
        complete = before["chunk"].astype(np.int64) + 1 == before["chunks"]
        if not self.vectors:
            complete[0] = True
        if not ((first & complete) | (~first & follows)).all() or (chunk >= chunks).any():
            raise ValueError
        self.vectors += len(rows)
        self.texts += int(first.sum())
        self._last = rows[-1:].copy()


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the texts of a file, each with all of its vectors."""

    #: The hash of each text, as PostgreSQL writes a uuid.
    hashes: list[str]
    #: Where the vectors of each text begin, and where the last one's end.
    starts: list[int]
    #: Of shape (vectors, dims).
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A file that was found to be as it was written."""

    path: Path
    header: Header
    #: Where the body begins, and where it ends.
    start: int
    end: int
    vectors: int
    texts: int
    #: SHA-256 of all before the footer, in hexadecimal.
    digest: str

    def pages(self, size: int) -> Iterator[Page]:
        """Yield the texts with their vectors, about ``size`` bytes at once; a text with more comes alone."""
        body, rest = Body(self.header), np.empty(0, self.header.row)
        with self.path.open("rb") as file:
            file.seek(self.start)
            for piece in _pieces(file, self.end - self.start, max(size, self.header.row.itemsize)):
                rows = np.concatenate([rest, body.feed(piece)])
                firsts = np.flatnonzero(rows["chunk"] == 0)
                # the last text may go on in the next piece
                whole = (
                    len(rows) if len(rows) and rows["chunk"][-1] + 1 == rows["chunks"][-1] else int(firsts[-1:].sum())
                )
                rest = rows[whole:]
                if whole:
                    yield _page(rows[:whole], firsts[firsts < whole])


def _page(rows: NDArray[Any], firsts: NDArray[np.intp]) -> Page:
    digits = rows["hash"][firsts].tobytes().hex()
    found = [digits[at : at + 32] for at in range(0, len(digits), 32)]
    hashes = [f"{hash_[:8]}-{hash_[8:12]}-{hash_[12:16]}-{hash_[16:20]}-{hash_[20:]}" for hash_ in found]
    return Page(hashes, [*firsts.tolist(), len(rows)], rows["data"].astype(np.float32))


def checked(path: Path) -> VectorFile:
    """Read a file to its end, and return it if it is as it was written.

    Raises:
        UsageError: it cannot be read, or is no such file.
        VecmigError: it was cut or altered, or another version of vecmig wrote it.
    """
    try:
        with path.open("rb") as file:
            return _checked(path, file)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", state=_NOTHING) from error


def _checked(path: Path, file: IO[bytes]) -> VectorFile:
    first = file.readline(64)
    if not first.startswith(_MAGIC):
        raise UsageError(
            f"{path} is no file of vectors.",
            state=_NOTHING,
            hint="vecmig vectors export COLLECTION TAG FILE writes one",
        )
    digest, header, start = hashlib.sha256(first), None, 0
    if first == b"%s%d\n" % (_MAGIC, _FORMAT):
        line = file.readline(_LONGEST_HEADER)
        digest.update(line)
        start = len(first) + len(line)
        with suppress(ValueError, KeyError, TypeError, RecipeError, TagError):
            header = Header.from_json(line)
    body, sound = None if header is None else Body(header), header is not None
    end = os.fstat(file.fileno()).st_size - _DIGEST
    for piece in _pieces(file, end - (start or len(first)), _PIECE):
        digest.update(piece)
        if body is not None and sound:
            try:
                body.feed(piece)
            except ValueError:
                sound = False
    if file.read() != digest.digest():
        raise VecmigError(
            f"{path} was cut or altered: its checksum does not match.",
            state=_NOTHING,
            hint="Copy it again, or write it again: vecmig vectors export COLLECTION TAG FILE",
        )
    with suppress(ValueError):
        if header is not None and body is not None and sound:
            body.finish()
            return VectorFile(path, header, start, end, body.vectors, body.texts, digest.hexdigest())
    raise VecmigError(
        f"{path} is in a format that this vecmig does not read: {first.decode(errors='replace').strip()}.",
        state=_NOTHING,
        hint="Run: pip install --upgrade vecmig",
    )


def _pieces(file: IO[bytes], size: int, piece: int) -> Iterator[bytes]:
    """Read that many bytes, some at a time."""
    while size > 0 and (read := file.read(min(size, piece))):
        size -= len(read)
        yield read


class Writer:
    """Writes a file: its header first, then whatever is given to ``write``, then its footer."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self.body = Body(header)
        self._file = file
        self._digest = hashlib.sha256()
        self._append(header.to_bytes())

    def write(self, piece: bytes) -> None:
        """Append a piece of the body."""
        self.body.feed(piece)
        self._append(piece)

    def finish(self) -> str:
        """Append the footer; return the digest."""
        self.body.finish()
        self._file.write(self._digest.digest())
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()

    def _append(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._file.write(piece)


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that is at ``path`` once all of it is written, for its owner alone to read.

    Raises:
        UsageError: there is something already, or it cannot be written there.
    """
    refuse_existing(path)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
            refuse_existing(path)
            Path(name).rename(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", state="No file was made.") from error


def refuse_existing(path: Path) -> None:
    """Refuse to write where something is already.

    Raises:
        UsageError: there is.
    """
    if path.exists():
        raise UsageError(
            f"{path} is there already.", state="It was left as it is.", hint="Name another file, or remove it."
        )
