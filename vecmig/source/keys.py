"""The columns of a record's key, and how two keys are compared: by their types' own operators, wherever these live."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

#: What is true of two keys, and what must hold of the first columns that differ.
#: A record's key: the values of its key columns, each as PostgreSQL writes it as text.
Key = tuple[str, ...]

_STRICT: Final = {"<": "<", "<=": "<", ">": ">", ">=": ">"}


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """One column of a record's key: its name in the source now, and its type as SQL writes it."""

    name: str
    type: str
    #: The schema of the operators that compare two of its values.
    equal_schema: str
    #: Whether its values can be sent in binary; a type of an extension may have no such form.
    binary: bool = True
    #: Its collation by its full name; None where its type has none.
    collation: str | None = None
    #: Whether it may be NULL; a row that has no key is no record.
    nullable: bool = False
    #: Its number in the source, which no renaming changes.
    number: int = 0
    #: Its type by its full name, without a modifier, as it is found without a search path.
    full_type: str = ""
    #: Whether the key column of the vectors, which an earlier vecmig made, has another collation.
    collated: bool = False
    #: What it was called when the vectors table was made; None where that is its name still.
    made_as: str | None = None

    @property
    def stored(self) -> str:
        """What the vectors table calls it, and with that the live view and the search function."""
        return self.made_as or self.name

    @property
    def written(self) -> str:
        """What the vectors table calls it, as SQL writes it."""
        return sql.Identifier(self.stored).as_string(None)

    def operator(self, name: str) -> sql.Composed:
        """Return a comparison operator by its full name: in any search_path it is the one of the type's own order."""
        return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(self.equal_schema), sql.SQL(name))


def same_key(key: Sequence[KeyColumn], left: Iterable[sql.Composable], right: Iterable[sql.Composable]) -> sql.Composed:
    """Return the condition that two keys are equal, column by column."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} {}").format(one, column.operator("="), other)
        for column, one, other in zip(key, left, right, strict=True)
    )


def compared_keys(
    key: Sequence[KeyColumn], left: Sequence[sql.Composable], operator: str, right: Sequence[sql.Composable]
) -> sql.Composed:
    """Return the condition that one key is less or greater than another, in the order that ORDER BY gives them.

    An index serves the comparison of two rows; PostgreSQL takes one schema for all of its operators.
    """
    comma = sql.SQL(", ")
    if len({column.equal_schema for column in key}) == 1:
        row = sql.SQL("({}) {} ({})")
        return row.format(comma.join(left), key[0].operator(operator), comma.join(right))
    found: sql.Composable = sql.SQL("{} {} {}").format(left[-1], key[-1].operator(operator), right[-1])
    for at in range(len(key) - 2, -1, -1):
        strict, equal = key[at].operator(_STRICT[operator]), key[at].operator("=")
        nested = sql.SQL("({left} {strict} {right} OR ({left} {equal} {right} AND {found}))")
        found = nested.format(left=left[at], right=right[at], strict=strict, equal=equal, found=found)
    # for the index: the nested condition gives it no bound
    bound = sql.SQL("{} {} {}").format(left[0], key[0].operator(f"{_STRICT[operator]}="), right[0])
    return sql.SQL("({} AND {})").format(bound, found)
