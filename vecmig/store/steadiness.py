"""Whether texts stay the same while their records do, told by reading them again.

What ``expressions`` finds in a plan is not all there is: a view may hide a volatile function, and a function may be
called IMMUTABLE that is not. Each of its texts would be paid for at every run, and none be written.
"""

from __future__ import annotations

from typing import Final

from vecmig.errors import UnsteadyExpression
from vecmig.store.connect import Connection
from vecmig.store.pages import read_page
from vecmig.store.space import Space

_LOOKED_AT: Final = 50
#: An application may edit a record between two readings, hardly between each two of these.
_READINGS: Final = 4


def refuse_unsteady_texts(connection: Connection, space: Space) -> None:
    """Read the first pending texts of a tag again, and refuse those that are others each time.

    Args:
        connection: one whose statements are transactions of their own, so that the time goes on between them.
        space: the tag that is to be embedded.

    Raises:
        UnsteadyExpression: naming one record.
    """
    seen = _hashes(connection, space)
    unsteady = set(seen)
    for _ in range(_READINGS - 1):
        if not unsteady:
            return
        again = _hashes(connection, space)
        unsteady = {key for key in unsteady if again.get(key, seen[key]) != seen[key]}
        seen = again
    if unsteady:
        key = ", ".join(min(unsteady))
        raise UnsteadyExpression(
            f"Collection {space.source.collection.name}: the text of the record {key} is another one each time it is "
            "read: it would be paid for at each run, and never be written.",
            state="Nothing was embedded.",
            hint="Look for chance or the time in what text: in collections.yaml reads: a view, or a function that is "
            "declared IMMUTABLE and is not. Keep what it gives in a column, and name that.",
        )


def _hashes(connection: Connection, space: Space) -> dict[tuple[str, ...], str]:
    return {record.key: record.source_hash for record in read_page(connection, space, None, _LOOKED_AT).pending}
