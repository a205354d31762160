"""A vector of the source's own that a text has outlived is never counted for the next, whatever comes between."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from support.adopting import adopts, give_vectors, lies, literal
from support.embedding import Model
from support.lab import SMALL, Lab

ALL = 20
HOMES = {"partition": 'm.adopt("embedding")', "column": 'm.adopt("embedding", home="column", fill=True)'}


@pytest.fixture
def copied(lab: Lab) -> Lab:
    give_vectors(lab)
    adopts(lab, HOMES["partition"])
    lab.upgrade("r1")
    return lab


@pytest.fixture
def scanned(lab: Lab) -> Lab:
    give_vectors(lab)
    lab.write(options={"change_tracking": "scan"})
    adopts(lab, HOMES["partition"])
    lab.upgrade("r1")
    return lab


@pytest.mark.parametrize(
    "changes",
    [
        ["UPDATE documents SET body = 'x', id = 1013 WHERE id = 13"],
        ["UPDATE documents SET body = 'x' WHERE id = 13", "UPDATE documents SET id = 1013 WHERE id = 13"],
        ["UPDATE documents SET body = 'x' WHERE id = 13", "sync", "UPDATE documents SET id = 1013 WHERE id = 13"],
        ["UPDATE documents SET id = 1013 WHERE id = 13", "UPDATE documents SET body = 'x' WHERE id = 1013"],
        [
            f"UPDATE documents SET body = 'x', embedding = '{literal('title 13' + chr(10) * 2 + 'x')}' WHERE id = 13",
            "UPDATE documents SET body = 'body 13' WHERE id = 13",
        ],
        ["UPDATE documents SET body = NULL WHERE id = 13", "sync", "UPDATE documents SET body = 'x' WHERE id = 13"],
        [
            "UPDATE documents SET body = NULL WHERE id = 13",
            "sync",
            "UPDATE documents SET body = 'POISON' WHERE id = 13",
            "sync",
            "sync",
        ],
    ],
)
@pytest.mark.parametrize("home", HOMES)
def test_no_vector_counts_for_a_text_that_came_later(lab: Lab, model: Model, home: str, changes: list[str]) -> None:
    def spoil(texts: list[str], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors[["POISON" in text for text in texts]] = float("nan")
        return vectors

    lab.sql("ALTER TABLE documents ALTER COLUMN body DROP NOT NULL")
    give_vectors(lab)
    adopts(lab, HOMES[home])
    lab.upgrade("r1")
    model.after = spoil
    for change in changes:
        if change == "sync":
            lab.sync()
        else:
            lab.sql(change)
    lab.sync()
    assert lies(lab) == []


def test_a_key_that_changed_alone_keeps_its_vector(copied: Lab, model: Model) -> None:
    copied.sql("UPDATE documents SET id = id + 1000")
    copied.sync()
    assert (model.total(), copied.cover(SMALL).fresh, lies(copied)) == (0, ALL, [])


@pytest.mark.parametrize(
    "changes",
    [
        ["UPDATE documents SET body = NULL WHERE id = 13", "sync", "UPDATE documents SET body = 'x' WHERE id = 13"],
        [
            "UPDATE documents SET kept = embedding WHERE id = 13",
            "UPDATE documents SET body = 'x', embedding = NULL WHERE id = 13",
            "sync",
            "UPDATE documents SET embedding = kept WHERE id = 13",
        ],
    ],
)
def test_no_scan_takes_over_what_a_text_has_outlived(scanned: Lab, changes: list[str]) -> None:
    scanned.sql("ALTER TABLE documents ALTER COLUMN body DROP NOT NULL, ADD COLUMN kept vector")
    for change in changes:
        if change == "sync":
            scanned.sync()
        else:
            scanned.sql(change)
    scanned.sync()
    assert lies(scanned) == []
    assert scanned.cover(SMALL).fresh == ALL


@pytest.mark.parametrize("state", ["P0004", "P0002", "23514", "21000", "0A000", "MY001"])
def test_a_function_of_the_teams_may_refuse_a_value_in_its_own_way(lab: Lab, model: Model, state: str) -> None:
    give_vectors(lab)
    lab.sql(
        "CREATE FUNCTION checked(id bigint, e vector) RETURNS vector IMMUTABLE LANGUAGE plpgsql "
        f"AS $$ BEGIN IF id = 7 THEN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END IF; RETURN e; END $$"
    )
    adopts(lab, 'm.adopt("checked(id, embedding)")')
    lab.upgrade("r1")
    assert (model.total(), lab.cover(SMALL).fresh) == (1, ALL)
