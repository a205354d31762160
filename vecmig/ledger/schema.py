"""Which version vecmig's own tables have in a database; a schema newer than this program is refused."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.postgres.named_sql import script, statement
from vecmig.postgres.sessions import Connection

#: The numbered files under sql/, in order; the position is the schema's version.
FILES: Final = (
    "001_metadata",
    "002_control",
    "003_trust",
    "004_placement",
    "005_tracking",
    "006_identity",
    "007_text_hash",
    "008_views",
    "009_mirrored",
    "010_gathering",
    "011_learned_limits",
    "012_home",
    "013_holds",
    "014_adoption",
    "015_try_vector",
    "016_superseded",
    "017_fills",
    "018_batch_order",
    "019_last_full_pass",
    "020_index",
    "021_syncs",
    "022_index_before",
)
VERSION: Final = len(FILES)
_TABLE: Final = re.compile(r'^CREATE TABLE "vecmig"\.(\w+)', re.MULTILINE)
_ROUTINE: Final = re.compile(r'^CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE) "vecmig"\.(\w+)', re.MULTILINE)


def installed_version(connection: Connection, schema: str) -> int:
    """Give the version of vecmig's schema in this database; 0 when it is not there.

    Raises:
        DatabaseError: the schema is newer than this program, or is somebody else's.
    """
    seen = connection.current_schemas
    if seen is not None and schema in seen:
        return VERSION
    found = connection.execute(statement("ledger/schema", "find"), {"schema": schema}).fetchone()
    if found is None or not any(found):
        return 0
    if not found[0]:
        raise DatabaseError(
            f"The schema {schema} exists but is not vecmig's.",
            state="Nothing was changed.",
            hint="Set schema = another_name in vecmig.ini.",
        )
    row = connection.execute(statement("ledger/schema", "version", schema=sql.Identifier(schema))).fetchone()
    version = int(row[0]) if row else 0
    if version > VERSION:
        raise DatabaseError(
            f"The schema {schema} has version {version}; this vecmig knows up to {VERSION}.",
            state="Nothing was changed.",
            hint="Somebody works here with a newer vecmig. Run: pip install --upgrade vecmig",
        )
    if version == VERSION and seen is not None:
        # within a run no other one comes after it, and each question for it is a round trip
        seen.add(schema)
    return version


@cache
def ledger_tables() -> frozenset[str]:
    """Name the tables that vecmig's schema has."""
    return _created(_TABLE)


@cache
def ledger_routines() -> frozenset[str]:
    """Name the functions and procedures that vecmig's schema has beside those of each collection."""
    return _created(_ROUTINE)


def _created(what: re.Pattern[str]) -> frozenset[str]:
    schema = sql.Identifier("vecmig")
    texts = [
        statement("ledger/schema", "create", schema=schema),
        *(script(f"ledger/{file}", schema=schema) for file in FILES),
    ]
    return frozenset(name for text in texts for name in what.findall(text.as_string()))


def is_installed(connection: Connection, schema: str) -> bool:
    """Whether vecmig's tables are in a schema; where something else is, they are not.

    Raises:
        DatabaseError: they are newer than this program.
    """
    found = connection.execute(statement("ledger/schema", "find"), {"schema": schema}).fetchone()
    return found is not None and bool(found[0]) and installed_version(connection, schema) > 0
