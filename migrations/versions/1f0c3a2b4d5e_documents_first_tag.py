"""documents: first tag, 64 dimensions

Revision ID: 1f0c3a2b4d5e
Revises:
Create Date: 2026-11-22 10:00:00
"""

from vecmig import Gate, Migration

revision = "1f0c3a2b4d5e"
down_revision = None
branch_labels = None
depends_on = None

collection = "documents"
old_tag = None
new_tag = "wordllama@0.4/dim-64/chunk-none/norm-l2"
gate = Gate(coverage=0.995, freshness_budget=0.005)

# the example's own table; a real project has one already, and its first revision begins with m.expand(). A statement
# runs again when a revision was taken back and goes forward once more
CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS public.documents (
    id bigint PRIMARY KEY,
    title text NOT NULL,
    body text
)
"""
LOAD = """
INSERT INTO public.documents
SELECT p.oid, p.proname, d.description
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_description d ON d.objoid = p.oid AND d.classoid = 'pg_catalog.pg_proc'::regclass
ON CONFLICT DO NOTHING
"""


def upgrade(m: Migration) -> None:
    m.execute(CREATE_TABLE)
    m.execute(LOAD)
    m.expand()


def backfill(m: Migration) -> None:
    m.backfill()


def cutover(m: Migration) -> None:
    m.build_index()
    m.cutover(gate)


def downgrade(m: Migration) -> None:
    m.rollback()
