"""What an upgrade will take is told beforehand, and rejected records can be listed and tried again."""

from __future__ import annotations

import pytest

from support.cli import (
    Vecmig,
    describe,
    documents_collection,
    local,
    make_documents,
    script,
    tag,
    write_hashing,
)
from support.project import Project

A, B = tag("a", 16), tag("b", 32)
RECIPES = {A: local(16), B: local(32) | {"price_per_million_tokens": 2}}


@pytest.fixture
def planned(project: Project) -> Project:
    make_documents(project, 40)
    write_hashing(project, 16, 32)
    describe(project, {"documents": documents_collection(B)}, RECIPES)
    script(project, "aaaa", A)
    script(project, "bbbb", B, old=A, down="aaaa")
    return project


def test_a_plan_of_two_revisions(planned: Project, vecmig: Vecmig) -> None:
    first, second = vecmig("plan", "--json").json
    assert (first["revision"], first["old_tag"], first["new_tag"]) == ("aaaa", None, A)
    assert (second["pending"], second["eligible"], second["chunks"]) == (40, 40, 40)
    assert second["cost_usd"] == pytest.approx(second["tokens"] * 2 / 1_000_000)
    assert (first["priced"], second["priced"], second["seconds"]) == (False, True, None)
    assert vecmig("plan", "--json", "--rate", "10").json[1]["seconds"] == 4
    assert planned.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'vecmig'") == [(0,)], "a plan writes nothing"


def test_a_plan_knows_what_is_done_already(planned: Project, vecmig: Vecmig) -> None:
    vecmig("upgrade", "+1")
    vecmig("upgrade", "--until", "expand")
    vecmig("backfill", "--limit", "10")
    (left,) = vecmig("plan", "--json").json
    assert left["phase"] == "expanded"
    assert left["pending"] == 30
    assert left["rate"] > 0
    assert left["tokens"] > 0
    shown = vecmig("plan").stdout
    assert "30 to embed of 40 with a text (40 in all)" in shown
    assert "at most about $" in shown
    vecmig("upgrade")
    assert vecmig("plan").stdout == "Nothing to do: the database is there already.\n"


def test_rejected_records_are_listed_and_tried_again(planned: Project, vecmig: Vecmig) -> None:
    (planned.path / "picky.py").write_text(
        "import zlib\nimport numpy as np\n"
        "def one(t):\n    return np.random.default_rng(zlib.crc32(t.encode())).standard_normal(16)\n"
        "def embed(texts):\n    return np.array([one(t) * ('title 7 ' not in t) for t in texts])\n"
    )
    describe(
        planned,
        {"documents": documents_collection(A)},
        {A: {"provider": "python", "callable": "picky:embed", "dims": 16}},
    )
    script(planned, "aaaa", A, gate="Gate(coverage=0.9, freshness_budget=0.1)")
    vecmig("upgrade", "+1")
    (record,) = vecmig("rejected", "--json").json
    assert (record["collection"], record["tag"], record["key"]) == ("documents", A, [7])
    assert record["reason"] == "the vector has zero norm"
    assert "the vector has zero norm" in vecmig("rejected", "documents").stdout
    (planned.path / "picky.py").write_text(
        "import zlib\nimport numpy as np\n"
        "def one(t):\n    return np.random.default_rng(zlib.crc32(t.encode())).standard_normal(16)\n"
        "def embed(texts):\n    return np.array([one(t) for t in texts])\n"
    )
    assert vecmig("rejected", "--retry").stdout.startswith("1 record is tried again")
    assert vecmig("rejected").stdout == "No record is rejected.\n"
