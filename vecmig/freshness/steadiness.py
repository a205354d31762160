"""Whether texts stay the same while their records do, told by reading them again.

What ``expressions`` finds in a plan is not all there is: a view may hide a volatile function, and a function may be
called IMMUTABLE that is not. Each of its texts would be paid for at every run, and none be written.
"""

from __future__ import annotations

from typing import Final

from vecmig.errors import UnsteadyExpression
from vecmig.freshness.pending import read_page
from vecmig.freshness.stamps import Stamps
from vecmig.postgres.sessions import Connection

_LOOKED_AT: Final = 50


def refuse_unsteady_texts(connection: Connection, stamps: Stamps) -> None:
    """Read the first pending texts of a tag twice in one snapshot, and refuse those that differ.

    Raises:
        UnsteadyExpression: naming one record.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        first = _hashes(connection, stamps)
        second = _hashes(connection, stamps) if first else first
    unsteady = [key for key, hash_ in first.items() if second.get(key, hash_) != hash_]
    if unsteady:
        key = ", ".join(unsteady[0])
        raise UnsteadyExpression(
            f"Collection {stamps.source.collection.name}: the text of the record {key} is another one each time it is "
            "read: it would be paid for at each run, and never be written.",
            state="Nothing was embedded.",
            hint="Look for chance or the time in what text: in collections.yaml reads: a view, or a function that is "
            "declared IMMUTABLE and is not. Keep what it gives in a column, and name that.",
        )


def _hashes(connection: Connection, stamps: Stamps) -> dict[tuple[str, ...], str]:
    return {record.key: record.source_hash for record in read_page(connection, stamps, None, _LOOKED_AT).pending}
