"""documents: 64 to 256 dimensions

Revision ID: 7c1e5d0a9b21
Revises: 1f0c3a2b4d5e
Create Date: 2026-11-22 10:05:00
"""

from vecmig import Gate, Migration

revision = "7c1e5d0a9b21"
down_revision = "1f0c3a2b4d5e"
branch_labels = None
depends_on = None

collection = "documents"
old_tag = "wordllama@0.4/dim-64/chunk-none/norm-l2"
new_tag = "wordllama@0.4/dim-256/chunk-none/norm-l2"
gate = Gate(coverage=0.995, freshness_budget=0.005)


def upgrade(m: Migration) -> None:
    m.expand()


def backfill(m: Migration) -> None:
    m.backfill()


def cutover(m: Migration) -> None:
    m.build_index()
    m.cutover(gate)


def downgrade(m: Migration) -> None:
    m.rollback()
