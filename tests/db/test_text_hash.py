"""The hash that tells whether a record is fresh: no two texts share it, and what an earlier vecmig wrote stays good."""

from __future__ import annotations

import hashlib

import pytest
from psycopg import sql

from support.embedding import Model
from support.lab import CHUNKED, LARGE, SMALL, Lab
from support.stamps import text_hash
from vecmig import runner
from vecmig.ledger.schema import FILES
from vecmig.postgres.named_sql import script

#: Two texts with one MD5, found by Marc Stevens.
ONE = "TEXTCOLLBYfGiJUETHQ4hAcKSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak"
OTHER = "TEXTCOLLBYfGiJUETHQ4hEcKSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak"


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def test_the_two_texts_have_one_md5() -> None:
    assert ONE != OTHER
    assert _md5(ONE) == _md5(OTHER)


@pytest.mark.parametrize("tracking", ["triggers", "scan"])
def test_an_edit_between_two_texts_with_one_md5_is_seen(lab: Lab, model: Model, tracking: str) -> None:
    lab = lab.write(text="body", options={"change_tracking": tracking})
    lab.sql("UPDATE documents SET body = %s WHERE id = 3", ONE)
    lab.upgrade()
    lab.sql("UPDATE documents SET body = %s WHERE id = 3", OTHER)

    assert (lab.cover(LARGE).fresh, lab.cover(LARGE).stale) == (19, 1)
    model.embedded.clear()
    lab.sync()

    assert dict(model.embedded) == {(64, OTHER): 1, (256, OTHER): 1}
    assert lab.cover(LARGE).stale == 0


def test_a_stamp_is_half_of_the_sha256_of_the_text_as_utf_8(lab: Lab) -> None:
    lab = lab.write(text="body")
    lab.sql("UPDATE documents SET body = 'Größe, 大きさ, 🐘' WHERE id = 3")
    lab.upgrade("r1")

    (stamp,) = lab.sql("SELECT source_hash::text FROM documents_vectors WHERE id = 3")[0]

    assert stamp.replace("-", "") == hashlib.sha256("Größe, 大きさ, 🐘".encode()).hexdigest()[:32]


# What an earlier vecmig wrote ------------------------------------------------------------------------------------


@pytest.fixture(params=[(SMALL, LARGE), (CHUNKED, LARGE)], ids=["whole", "chunked"])
def older(lab: Lab, request: pytest.FixtureRequest) -> Lab:
    """A project whose first tag is live, as the first version left it: stamps of MD5, and a ledger that says nothing.

    Record 7 was rejected, record 9 was edited after its vector was made.
    """
    lab = lab.write(chain=request.param)
    lab.upgrade("r1")
    text = lab.text
    lab.sql(
        f"UPDATE documents_vectors v SET source_hash = md5({text})::uuid FROM documents d "
        f"WHERE d.id = v.id AND v.source_hash = {text_hash(text)}"
    )
    lab.sql("DELETE FROM documents_vectors WHERE id = 7")
    lab.sql(
        "INSERT INTO vecmig.rejected (collection, tag, key, source_hash, reason) "
        f"SELECT 'documents', '{lab.chain[0]}', '[7]', md5({text})::uuid, 'no' FROM documents WHERE id = 7"
    )
    lab.sql("UPDATE documents SET body = 'edited' WHERE id = 9")
    lab.sql("ALTER TABLE vecmig.tag DROP COLUMN text_hash")
    return lab


def _update_ledger(lab: Lab) -> None:
    """Do to the ledger what its next update does."""
    assert "007_text_hash" in FILES
    with lab.database.session() as connection:
        connection.execute(script("ledger/007_text_hash", schema=sql.Identifier("vecmig")))


def test_looking_counts_the_vectors_of_an_earlier_vecmig_as_they_are(older: Lab) -> None:
    found = older.cover(older.chain[0])

    assert (found.fresh, found.stale, found.rejected) == (18, 1, 1)
    assert runner.status(older.config).collections[0].tags[0].coverage == found
    assert {finding.kind for finding in runner.audit(older.config).findings} == {"stale vectors", "updated vectors"}


def test_nothing_that_an_earlier_vecmig_embedded_is_bought_again(older: Lab, model: Model) -> None:
    first = older.chain[0]
    _update_ledger(older)
    model.embedded.clear()
    older.sync()
    assert {text for _, text in model.embedded} <= {"title 9\n\nedited", "title 9", "edited"}
    assert older.cover(first).fresh == 19

    older.sql("UPDATE documents SET body = 'edited again' WHERE id = 9")
    older.sync()
    assert older.cover(first).fresh == 19
    older.upgrade()

    assert older.live == LARGE
    assert model.total(256) == 20
    assert older.cover(LARGE).fresh == 20
    assert older.sql("SELECT tag, text_hash FROM vecmig.tag ORDER BY created_at") == [
        (first, "md5"),
        (LARGE, "sha256"),
    ]
    bought = model.total()
    older.downgrade()
    older.sync()
    older.upgrade()
    assert model.total() == bought
