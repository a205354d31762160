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


def plan_tables(project: Project, count: int) -> None:
    """Describe tables that are alike, with 10, 11, … records, and one script for all of them."""
    write_hashing(project, 32)
    names = [f"dataset_{number}" for number in range(count)]
    for more, name in enumerate(names):
        project.sql(f"CREATE TABLE {name} (id bigint PRIMARY KEY, body text)")
        project.sql(
            f"INSERT INTO {name} SELECT i, 'the text of record ' || i FROM generate_series(1, {10 + more}) AS i"
        )
    described = {name: {"source": name, "key": ["id"], "text": "body", "tag": B} for name in names}
    describe(project, described, {B: RECIPES[B]})
    script(project, "aaaa", B, collection="dataset_*")


def test_many_tables_have_a_line_each_and_a_sum(project: Project, vecmig: Vecmig) -> None:
    plan_tables(project, 12)
    records = sum(range(10, 22))
    shown = vecmig("plan", "--rate", "10").stdout.splitlines()
    assert shown[0] == f"12 revisions to {B}"
    assert shown[1].split() == ["records", "to", "embed", "tokens", "cost", "time", "revision"]
    lines = {line.split()[-1]: line.split() for line in shown[2:15]}
    assert lines["aaaa_dataset_3"][:2] == ["13", "13"]
    assert lines["together"][:2] == [str(records), str(records)]
    assert all(len(line) <= 80 for line in shown[:15])
    found = vecmig("plan", "--json", "--sum", "--rate", "10").json
    assert found["revisions"] == vecmig("plan", "--json", "--rate", "10").json
    total = found["sum"]
    assert (total["revisions"], total["records"], total["pending"]) == (12, records, records)
    for name in ("chunks", "tokens", "requests", "cost_usd", "seconds", "vector_bytes"):
        assert total[name] == pytest.approx(sum(one[name] for one in found["revisions"])), name
    assert int(lines["together"][2].replace(",", "")) == total["tokens"]
    # one in full, and what is not known is not added up
    assert "to embed of 13 with a text" in vecmig("plan", "dataset_3@head").stdout
    assert vecmig("plan", "--json", "--sum").json["sum"]["seconds"] is None
    assert "time      give --rate, or measure" in vecmig("plan").stdout


def test_a_budget_that_several_tables_would_pass_is_told_once(project: Project, vecmig: Vecmig) -> None:
    plan_tables(project, 4)
    said = vecmig("plan", "--max-cost", "0.0000001").stderr
    assert said.count("warning: ") == 1
    assert "may cost more than their budgets" in said


def test_a_table_has_a_line_though_its_name_is_long(project: Project, vecmig: Vecmig) -> None:
    plan_tables(project, 1)
    name = "dataset_of_a_tenant_with_a_name_too_long"
    project.sql(f"ALTER TABLE dataset_0 RENAME TO {name}")
    describe(project, {name: {"source": name, "key": ["id"], "text": "body", "tag": B}}, {B: RECIPES[B]})
    assert any(line.endswith(f"aaaa_{name}") for line in vecmig("plan", "--sum").stdout.splitlines())


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
