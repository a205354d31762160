"""Calls are packed up to both limits of a provider, for records and for the texts of a record above them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.backfill.batches import Job, batches, new_job
from vecmig.backfill.embed import embed
from vecmig.embedders import BaseEmbedder, Kind, Reply, document_tokens, estimated_tokens, pack
from vecmig.errors import PoisonInputError
from vecmig.freshness.pending import PendingRecord
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag

TAG = Tag.parse("m@1/dim-2/chunk-none/norm-l2")


class Counting(BaseEmbedder):
    """Keeps the texts of each call as they were sent, and gives each a vector by its length."""

    def __init__(self, **fields: Any) -> None:
        data = {"provider": "openai", "dims": TAG.dims}
        super().__init__(str(TAG), Recipe.from_mapping(TAG, data | fields))
        self.calls: list[list[str]] = []

    def _request(self, texts: list[str], kind: Kind) -> Reply:
        self.calls.append(texts)
        return Reply(np.array([[len(text), 1] for text in texts], dtype=np.float32))


def _job(embedder: BaseEmbedder, *chunks: str) -> Job:
    return new_job(embedder, PendingRecord(("1",), "".join(chunks), "hash"), chunks)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 40))),
    st.integers(1, 10),
    st.none() | st.integers(1, 50),
)
def test_packing_keeps_order_and_limits_and_wastes_no_call(
    sizes: list[tuple[int, int]], most_texts: int, most_tokens: int | None
) -> None:
    embedder = Counting(max_batch=most_texts) if most_tokens is None else _limited(most_texts, most_tokens)
    packed = list(pack(sizes, lambda size: size, embedder))

    def fits(batch: list[tuple[int, int]]) -> bool:
        tokens = sum(tokens for _, tokens in batch)
        return sum(texts for texts, _ in batch) <= most_texts and (most_tokens is None or tokens <= most_tokens)

    assert [size for batch in packed for size in batch] == sizes
    assert all(fits(batch) or len(batch) == 1 for batch in packed)
    assert not any(fits([*batch, after[0]]) for batch, after in pairwise(packed))


def _limited(texts: int, tokens: int) -> Counting:
    return Counting(max_batch=texts, max_batch_tokens=tokens)


def test_the_prompt_counts() -> None:
    embedder = Counting(max_batch_tokens=10, document_prompt="passage: {text}")
    assert document_tokens(embedder, "abc") == estimated_tokens("passage: abc") == 4
    job = _job(embedder, "abc", "defghi")
    assert job.tokens == 4 + 5
    assert list(batches([job, job], embedder)) == [[job], [job]]


def test_any_number_of_texts_is_embedded_in_order() -> None:
    embedder = Counting(max_batch=3, max_batch_tokens=4)
    texts = ["a", "bbb", "cc", "dddd", "e" * 30, "f", "gg", "h", "i"]
    found = embedder.embed_documents(texts)
    np.testing.assert_allclose(found[:, 0] / found[:, 1], [len(text) for text in texts], rtol=1e-5)
    assert embedder.calls == [["a", "bbb", "cc"], ["dddd"], ["e" * 30], ["f", "gg", "h"], ["i"]]


def test_a_record_of_more_tokens_than_one_call_takes_is_spread_over_several() -> None:
    embedder = Counting(max_batch=100, max_batch_tokens=10, document_prompt="p: {text}")
    long = _job(embedder, *(str(i) * 9 for i in range(7)))
    answer = embed(embedder, [long], "vector")
    assert answer.rejected == []
    assert len(answer.embedded[0].vectors) == 7
    assert [len(call) for call in embedder.calls] == [2, 2, 2, 1]


@pytest.mark.parametrize("texts", [1, 2, 3])
def test_one_call_is_enough_for_what_fits(texts: int) -> None:
    embedder = Counting(max_batch=3)
    embedder.embed_documents(["x"] * texts)
    assert len(embedder.calls) == 1


@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=6), st.sets(st.integers(1, 4))
)
def test_each_text_is_sent_once_unless_it_has_its_vector(records: list[list[int]], owned: set[int]) -> None:
    embedder = Counting()
    vectors = {size: np.array([size, -1], dtype=np.float32) for size in owned}
    jobs = []
    for sizes in records:
        job = _job(embedder, *("x" * size for size in sizes))
        mine = tuple(vectors.get(size) for size in sizes)
        jobs.append(job._replace(owned=mine) if any(vector is not None for vector in mine) else job)
    answer = embed(embedder, jobs, "vector")
    sent = [len(text) for call in embedder.calls for text in call]
    assert sorted(sent) == sorted({size for sizes in records for size in sizes} - owned)
    assert len(answer.embedded) == len(records)
    for sizes, record in zip(records, answer.embedded, strict=True):
        for size, vector in zip(sizes, record.vectors, strict=True):
            expected = vectors[size] if size in owned else Counting().embed_documents(["x" * size])[0]
            assert vector.tolist() == expected.tolist()


def test_a_text_that_several_records_have_is_sent_whatever_becomes_of_one() -> None:
    class Picky(Counting):
        def _request(self, texts: list[str], kind: Kind) -> Reply:
            if any("bad" in text for text in texts):
                raise PoisonInputError("The provider refuses this text.")
            return super()._request(texts, kind)

    embedder = Picky(max_batch=1)
    first, second = _job(embedder, "bad", "shared"), _job(embedder, "shared")
    answer = embed(embedder, [first, second], "vector")
    assert [record for record, _ in answer.rejected] == [first.record]
    assert len(answer.embedded) == 1
