"""A revision that is written while another one is on hold starts from the tag that is live."""

from __future__ import annotations

import pytest

from support.cli import Vecmig
from support.project import NEW_TAG, OLD_TAG, Project

THIRD = "wordllama@0.4/dim-128/chunk-none/norm-l2"


@pytest.fixture
def rolled_back(project: Project, vecmig: Vecmig, documents: int) -> str:
    """A project whose second revision was rolled back; the third tag is asked for. Returns the second's id."""
    project.want_tag(OLD_TAG)
    vecmig("revision")
    vecmig("upgrade")
    project.want_tag(NEW_TAG)
    vecmig("revision")
    vecmig("upgrade")
    vecmig("downgrade", "-1", "--reason", "recall fell")
    (held,) = [one["revision"] for one in vecmig("status", "--json").json["passed"]]
    return str(held)


def _ask_for_third(project: Project) -> None:
    project.want_tag(THIRD)
    text = project.collections.read_text()
    project.collections.write_text(f"{text}  {THIRD}: {{provider: wordllama, dims: 128}}\n")


def test_it_starts_from_the_live_tag_and_upgrades_go_past_the_other(
    project: Project, vecmig: Vecmig, rolled_back: str
) -> None:
    assert (
        vecmig("revision", code=2)
        .stderr.splitlines()[0]
        .endswith(f"{rolled_back} leads documents to {NEW_TAG} already, and it is on hold, or waits for one that is.")
    )
    _ask_for_third(project)
    written = vecmig("revision")
    assert f"documents: {OLD_TAG}\n  -> {THIRD}" in written.stderr
    up = vecmig("upgrade", "head").stdout
    assert f"{rolled_back}  on hold  " in up
    assert vecmig("status", "--json").json["collections"][0]["live_tag"] == THIRD
    vecmig("status", "--check")
    fresh = project.sql("SELECT count(*) FROM vecmig.documents_vectors WHERE tag = %s", NEW_TAG)
    assert fresh == [(300,)], "what is on hold stays"


def test_a_database_that_never_had_it_ends_at_the_same_tag(project: Project, vecmig: Vecmig, rolled_back: str) -> None:
    _ask_for_third(project)
    vecmig("revision")
    vecmig("uninstall", "--yes")
    up = vecmig("upgrade", "head").stdout.splitlines()
    assert [line.split("  ")[1] for line in up] == ["live", "live", "passed by"]
    assert project.sql("SELECT DISTINCT tag FROM vecmig.documents_vectors ORDER BY 1") == [(THIRD,), (OLD_TAG,)]


def test_without_a_database_nothing_is_taken_to_be_on_hold(project: Project, vecmig: Vecmig, rolled_back: str) -> None:
    _ask_for_third(project)
    written = project.vecmig("revision", env={"VECMIG_DATABASE_URL": "postgresql://localhost:1/nothing"}).expect()
    assert written.stderr.startswith("What is on hold could not be asked for, so that nothing is taken to be: ")
    assert f"documents: {NEW_TAG}\n  -> {THIRD}" in written.stderr
