"""What was seen is never taken for new; what is new is seldom taken for seen, in memory that is fixed."""

from __future__ import annotations

from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from vecmig.backfill.seen_texts import SeenTexts


@given(st.lists(st.uuids()))
def test_what_was_seen_is_known(digests: list[UUID]) -> None:
    seen, before = SeenTexts(len(digests)), set[UUID]()
    for digest in digests:
        there = seen.add(str(digest))
        assert there or digest not in before
        assert str(digest) in seen
        before.add(digest)


def test_few_new_texts_are_taken_for_seen() -> None:
    seen = SeenTexts(200_000)
    assert sum(seen.add(str(uuid4())) for _ in range(200_000)) < 2_000


def test_more_texts_than_expected_are_told_apart_less_and_never_forgotten() -> None:
    seen, first = SeenTexts(0), [str(uuid4()) for _ in range(1_000)]
    for digest in first:
        seen.add(digest)
    for _ in range(200_000):
        seen.add(str(uuid4()))
    assert all(digest in seen for digest in first)
