"""Rows for COPY are the same bytes, however many of them are laid out at once."""

from __future__ import annotations

import numpy as np
import pytest

from vecmig.homes.partition import copy_binary
from vecmig.homes.partition.copy_binary import Rows
from vecmig.model.collection import Storage

DIMS = 3
COUNTS = (1, 5, 2, 1)


def _rows(*, chunked: bool) -> Rows:
    counts = COUNTS if chunked else (1,) * len(COUNTS)
    drawn = np.random.default_rng(1)
    return Rows(
        b"m@1/dim-3/chunk-none/norm-l2",
        [[b"a", b"bb", b"", b"cccc"]],
        [f"{n:032x}" for n in range(len(counts))],
        [drawn.standard_normal((count, DIMS)).astype(np.float32) for count in counts],
        [f"text {n}".encode() * n for n in range(sum(counts))] if chunked else None,
    )


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("storage", ["vector", "halfvec"])
@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_rows_may_be_laid_out_in_parts(
    storage: Storage, chunked: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = list(_rows(chunked=chunked).pieces(storage))
    assert len(complete) == 3
    monkeypatch.setattr(copy_binary, "_PIECE", 4 * DIMS * at_once)
    parts = list(_rows(chunked=chunked).pieces(storage))
    assert len(parts) == 2 + -(-(sum(COUNTS) if chunked else len(COUNTS)) // at_once)
    assert b"".join(parts) == b"".join(complete)


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
def test_an_empty_text_is_a_key_also_where_no_other_record_is_written(storage: Storage) -> None:
    vectors = [np.ones((1, DIMS), np.float32), np.zeros((1, DIMS), np.float32)]
    hashes = [f"{n:032x}" for n in range(2)]
    both = b"".join(Rows(b"tag", [[b"", b"bb"]], hashes, vectors).pieces(storage))
    alone = b"".join(Rows(b"tag", [[b""]], hashes[:1], vectors[:1]).pieces(storage))
    end = alone[-2:]
    assert both.startswith(alone.removesuffix(end))
