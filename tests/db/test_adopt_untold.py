"""Vectors that changed in the source and of which no trigger told: a comparison finds them, and takes back nothing."""

from __future__ import annotations

import pytest

from support.adopting import TEXT, adopts, give_vectors, literal, write_one
from support.embedding import Model
from support.lab import SMALL, Lab

ALL = 20
#: How a change stays untold: the source is read by scanning, or its triggers were off for a while.
WAYS = ("scan", "triggers off")


@pytest.fixture(params=WAYS)
def untold(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    """Adopt all vectors where changes are found by scanning, or triggers tell of them."""
    give_vectors(lab)
    if request.param == "scan":
        lab.write(options={"change_tracking": "scan"})
    adopts(lab, 'm.adopt("embedding")')
    lab.upgrade("r1")
    return lab


def _write(lab: Lab, statement: str, *values: object) -> None:
    """Write as the application does while nobody is told."""
    lab.sql(f"ALTER TABLE {lab.source} DISABLE TRIGGER USER")
    lab.sql(statement, *values)


def _copy(lab: Lab, key: int) -> str:
    return str(lab.sql("SELECT embedding::text FROM documents_live WHERE id = %s", key)[0][0])


def _own(lab: Lab, key: int) -> str:
    """Return the vector that the source itself has."""
    return str(lab.sql("SELECT embedding::text FROM documents WHERE id = %s", key)[0][0])


def test_a_vector_that_changed_with_its_text_is_taken_over(untold: Lab, model: Model) -> None:
    _write(untold, "UPDATE documents SET body = 'new', embedding = %s WHERE id = 3", literal("title 3\n\nnew"))
    untold.sync()
    assert (model.total(), untold.cover(SMALL).fresh) == (0, ALL)
    assert _copy(untold, 3) == _own(untold, 3)


def test_a_vector_that_changed_alone_is_taken_over(untold: Lab, model: Model) -> None:
    _write(untold, "UPDATE documents SET embedding = %s WHERE id = 3", literal("a better one"))
    untold.sync()
    assert (model.total(), _copy(untold, 3)) == (0, _own(untold, 3))


def test_a_vector_that_its_text_has_outlived_stays_where_it_is(untold: Lab, model: Model) -> None:
    _write(untold, "UPDATE documents SET body = 'new' WHERE id = 3")
    untold.sync()
    bought = _copy(untold, 3)
    assert (model.total(), untold.cover(SMALL).fresh) == (1, ALL)
    _write(untold, "UPDATE documents SET body = body WHERE id = 3")
    untold.sync()
    assert (model.total(), _copy(untold, 3)) == (1, bought)
    _write(untold, "UPDATE documents SET embedding = %s WHERE id = 3", literal("a better one"))
    untold.sync()
    assert (model.total(), _copy(untold, 3)) == (1, _own(untold, 3))


def test_a_vector_that_was_bought_and_is_written_later_is_taken_over(untold: Lab, model: Model) -> None:
    _write(untold, "INSERT INTO documents (id, title, body) VALUES (50, 'title 50', 'new')")
    untold.sync()
    assert model.total() == 1
    _write(untold, "UPDATE documents SET embedding = %s WHERE id = 50", literal("a better one"))
    untold.sync()
    assert (model.total(), _copy(untold, 50)) == (1, _own(untold, 50))


def test_a_copy_stays_where_the_column_has_no_vector_any_more(untold: Lab, model: Model) -> None:
    before = _copy(untold, 3)
    _write(untold, "UPDATE documents SET embedding = NULL WHERE id = 3")
    untold.sync()
    assert (model.total(), _copy(untold, 3)) == (0, before)


def test_what_is_known_of_a_record_goes_with_it(untold: Lab) -> None:
    _write(untold, "UPDATE documents SET body = 'new' WHERE id in (3, 4)")
    untold.sync()
    assert untold.sql("SELECT key ->> 0 FROM vecmig.superseded ORDER BY 1") == [("3",), ("4",)]
    _write(untold, "DELETE FROM documents WHERE id = 3")
    untold.sync()
    assert untold.sql("SELECT key ->> 0 FROM vecmig.superseded") == [("4",)]


def test_what_is_known_of_records_goes_with_their_tag(lab: Lab) -> None:
    give_vectors(lab)
    adopts(lab, 'm.adopt("embedding")')
    lab.upgrade("r1", until="backfill")
    write_one(lab, 3, "new")
    lab.backfill()
    assert lab.sql("SELECT tag, key ->> 0 FROM vecmig.superseded") == [(SMALL, "3")]
    lab.downgrade(discard=True)
    assert lab.sql("SELECT count(*) FROM vecmig.superseded") == [(0,)]


def test_what_a_trigger_told_of_is_no_longer_superseded(lab: Lab, model: Model) -> None:
    """Also where an application goes back to the very vector that it had before, unseen."""
    give_vectors(lab)
    adopts(lab, 'm.adopt("embedding")')
    lab.upgrade("r1")
    old = lab.sql("SELECT embedding::text FROM documents WHERE id = 3")[0][0]
    write_one(lab, 3, "new")
    lab.sync()
    lab.sql("UPDATE documents SET embedding = %s WHERE id = 3", literal("title 3\n\nnew"))
    lab.sync()
    _write(lab, "UPDATE documents SET embedding = %s WHERE id = 3", old)
    lab.sync()
    assert (model.total(), _copy(lab, 3)) == (1, old)


def test_a_view_is_followed_by_scanning(lab: Lab, model: Model) -> None:
    give_vectors(lab)
    lab.sql("ALTER TABLE documents RENAME TO pages")
    lab.sql("CREATE VIEW documents AS SELECT * FROM pages")
    adopts(lab, 'm.adopt("embedding")')
    lab.upgrade("r1")
    lab.sql("UPDATE pages SET body = 'new', embedding = %s WHERE id = 3", literal("title 3\n\nnew"))
    lab.sync()
    assert (model.total(), lab.cover(SMALL).fresh) == (0, ALL)
    assert lab.sql(f"SELECT count(*) FROM pages WHERE id = 3 AND {TEXT} <> ''") == [(1,)]
