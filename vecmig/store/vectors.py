"""Everything that the layers above need of vectors: where they lie, how they are read, written and counted."""

from __future__ import annotations

from vecmig.store.coverage import (
    Coverage,
    count_records,
    count_vectors,
    estimated_vector_bytes,
    has_vectors,
    measure_coverage,
    sweep,
)
from vecmig.store.pages import (
    FIRST_DIGEST,
    PAGE_BYTES,
    Page,
    PendingRecord,
    read_changed,
    read_page,
    sample_texts,
    split_keys,
)
from vecmig.store.space import Key, Space
from vecmig.store.writing import LOCK_PATIENCE, EmbeddedRecord, prepare_to_write, reject_records, write_records

__all__ = [
    "FIRST_DIGEST",
    "LOCK_PATIENCE",
    "PAGE_BYTES",
    "Coverage",
    "EmbeddedRecord",
    "Key",
    "Page",
    "PendingRecord",
    "Space",
    "count_records",
    "count_vectors",
    "estimated_vector_bytes",
    "has_vectors",
    "measure_coverage",
    "prepare_to_write",
    "read_changed",
    "read_page",
    "reject_records",
    "sample_texts",
    "split_keys",
    "sweep",
    "write_records",
]
