"""The live view as a table of SQLAlchemy's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import BigInteger, Column, Engine, MetaData, NullPool, Text, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Session

from support.lab import LARGE, SMALL, Lab
from vecmig.sqlalchemy import live

QUERY = "title 3\n\nbody 3"


class Base(DeclarativeBase):
    """The models of an application."""


class Live(Base):
    """What the live tag has of a document."""

    __table__ = live("documents", Base.metadata, Column("id", BigInteger, primary_key=True), Column("title", Text))


@pytest.fixture
def engine(lab: Lab) -> Iterator[Engine]:
    """The application's own."""
    engine = create_engine(lab.url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.mark.upgraded("r1")
def test_a_model_searches_the_live_view(lab: Lab, engine: Engine) -> None:
    def nearest(session: Session) -> tuple[str, Live]:
        with lab.reader() as reader:
            tag, vector = reader.embed("documents", QUERY)
        rows = Live.__table__.c
        query = select(Live).where(rows.tag == tag).order_by(rows.embedding.cosine_distance(vector)).limit(1)
        return tag, session.scalars(query).one()

    with Session(engine) as session:
        tag, found = nearest(session)
        assert (tag, found.id, found.title, found.chunk, len(found.embedding)) == (SMALL, 3, "title 3", 0, 64)  # type: ignore[attr-defined]  # columns of its table
    lab.upgrade("r2")
    with Session(engine) as session:
        tag, found = nearest(session)
        assert (tag, found.id, len(found.embedding)) == (LARGE, 3, 256)  # type: ignore[attr-defined]  # see above


@pytest.mark.upgraded("r1")
def test_the_search_uses_the_index(lab: Lab, engine: Engine) -> None:
    table = live("documents", MetaData(), Column("id", BigInteger, primary_key=True))
    query = select(table.c.id).order_by(table.c.embedding.cosine_distance([0.0] * 63 + [1.0])).limit(3)
    with engine.connect() as connection:
        connection.execute(text("SET enable_seqscan = off"))
        connection.execute(text("SET enable_sort = off"))
        written = query.compile(connection, compile_kwargs={"literal_binds": True})
        plan = json.dumps(connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {written}").scalar_one())
    # what an index gives in order, and a sort would not
    assert re.search(r'"Order By": "[( ]*e?\.?embedding\)?::vector\(64\)', plan)


@pytest.mark.upgraded("r1")
def test_create_all_makes_no_table_of_it(lab: Lab, engine: Engine) -> None:
    Base.metadata.create_all(engine)
    assert lab.sql("SELECT relkind FROM pg_class WHERE relname = 'documents_live'") == [("v",)]


def test_the_key_must_be_said() -> None:
    with pytest.raises(ValueError, match="primary_key=True"):
        live("documents", MetaData(), Column("id", BigInteger))
