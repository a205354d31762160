"""The file of vectors: written and read in pieces of any size, and refused where its rows do not belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vecmig.errors import UsageError, VecmigError
from vecmig.homes import Header, VectorFile, Writer, checked, header_recipe, new_file
from vecmig.homes.vector_file import Body
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag

TAG = "toy@1/dim-3/chunk-10/norm-none"
_DATA: dict[str, Any] = {
    "provider": "openai",
    "dims": 3,
    "chunk": {"size": 10, "unit": "characters", "overlap": 0},
    "base_url": "http://models.internal/v1",
    "price_per_million_tokens": 0.1,
}
RECIPE = Recipe.from_mapping(Tag.parse(TAG), _DATA)
HEADER = Header(
    "documents", TAG, RECIPE.fingerprint, header_recipe(RECIPE), 3, "vector", "sha256", "0.1.0", canary=None
)


def rows(chunks: Sequence[int], header: Header = HEADER) -> NDArray[Any]:
    """Give the rows of so many texts, each with so many chunks; each number in it is another."""
    made = np.zeros(sum(chunks), header.row)
    made["columns"], made["hash length"], made["chunk length"], made["chunks length"] = 4, 16, 4, 4
    made["length"], made["dims"] = 4 + header.dims * made["data"].dtype.itemsize, header.dims
    made["chunk"] = [chunk for count in chunks for chunk in range(count)]
    made["chunks"] = [count for count in chunks for _ in range(count)]
    made["hash"] = [np.void(f"{text:016d}".encode()) for text, count in enumerate(chunks) for _ in range(count)]
    made["data"] = np.arange(made["data"].size).reshape(made["data"].shape)
    return made


def body(made: NDArray[Any]) -> bytes:
    """Give rows as COPY has them."""
    return b"PGCOPY\n\xff\r\n\0" + bytes(8) + made.tobytes() + b"\xff\xff"


def written(path: Path, made: NDArray[Any], *, piece: int = 7, header: Header = HEADER) -> VectorFile:
    """Write rows into a file, in pieces of a size, and read it."""
    path.unlink(missing_ok=True)
    content = body(made)
    with new_file(path) as file:
        writer = Writer(file, header)
        for start in range(0, len(content), piece):
            writer.write(content[start : start + piece])
        digest = writer.finish()
    found = checked(path)
    assert found.digest == digest
    return found


@given(
    chunks=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    piece=st.integers(1, 400),
    size=st.integers(1, 400),
)
def test_texts_come_whole_whatever_the_pieces_are(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[int], piece: int, size: int
) -> None:
    file = written(tmp_path_factory.mktemp("file") / "vectors", rows(chunks), piece=piece)
    assert (file.vectors, file.texts, file.header) == (sum(chunks), len(chunks), HEADER)
    texts = [
        (hash_, page.vectors[start:end].tolist())
        for page in file.pages(size)
        for hash_, start, end in zip(page.hashes, page.starts, page.starts[1:], strict=False)
    ]
    assert [len(vectors) for _, vectors in texts] == chunks
    assert [number for _, vectors in texts for vector in vectors for number in vector] == list(range(3 * sum(chunks)))
    assert [bytes.fromhex(hash_.replace("-", "")).decode() for hash_, _ in texts] == [
        f"{text:016d}" for text in range(len(chunks))
    ]


def test_half_precision_keeps_its_numbers(tmp_path: Path) -> None:
    header = replace(HEADER, storage="halfvec")
    (page,) = written(tmp_path / "vectors", rows([1, 2], header), header=header).pages(1_000)
    assert page.vectors.dtype == np.float32
    assert page.vectors.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_the_header_has_no_address_and_no_price(tmp_path: Path) -> None:
    written(tmp_path / "vectors", rows([1]))
    content = (tmp_path / "vectors").read_bytes()
    assert b"internal" not in content
    assert b"price" not in content
    assert checked(tmp_path / "vectors").header.made_by.fingerprint == RECIPE.fingerprint


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("chunk", 1, 2),
        ("chunk", 0, 1),
        ("chunks", 1, 3),
        ("dims", 2, 4),
        ("columns", 0, 5),
        ("hash", 1, np.void(bytes(16))),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(name: str, at: int, value: object) -> None:
    made = rows([2, 1])
    made[name][at] = value
    with pytest.raises(ValueError, match=r"^$"):
        Body(HEADER).feed(body(made))


@pytest.mark.parametrize("content", [body(rows([2])[:1]), body(rows([1]))[:-1], body(rows([1])) + b"\xff", b""])
def test_a_body_that_does_not_end_where_it_should_is_refused(content: bytes) -> None:
    read = Body(HEADER)
    read.feed(content)
    with pytest.raises(ValueError, match=r"^$"):
        read.finish()


@pytest.mark.parametrize(
    "change",
    [{"fingerprint": "0" * 64}, {"dims": 4}, {"storage": "bit"}, {"text_hash": "crc"}, {"tag": "none"}, {"recipe": {}}],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """Its checksum is right: another program wrote it."""
    path = tmp_path / "vectors"
    written(path, rows([1]))
    good = HEADER.to_bytes()
    rest = path.read_bytes()[len(good) : -32]
    content = replace(HEADER, **change).to_bytes() + rest
    path.write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(VecmigError, match="in a format that this vecmig does not read"):
        checked(path)


def test_nothing_is_left_where_writing_fails(tmp_path: Path) -> None:
    def write_half() -> None:
        with new_file(tmp_path / "vectors") as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="cannot be written"), new_file(tmp_path / "nowhere" / "vectors"):
        pass
    (tmp_path / "there").write_text("mine")
    with pytest.raises(UsageError, match="is there already"), new_file(tmp_path / "there"):
        pass
    assert (tmp_path / "there").read_text() == "mine"
