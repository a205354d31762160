"""What is known of a team's own tables with vectors: facts as they were read, without a judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from vecmig.model.collection import Metric
from vecmig.model.tag import NORM_TOLERANCE

#: What a column is to those who look for vectors.
Kind = Literal["vector", "halfvec", "array", "text", "other"]
VECTOR_KINDS: Final = ("vector", "halfvec", "array")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One column of a table."""

    name: str
    #: Quoted where SQL needs that.
    quoted: str
    #: As SQL writes it, with the schema of a type that is not PostgreSQL's own.
    type: str
    kind: Kind
    #: The dims that its type declares; None where it declares none.
    dims: int | None
    nullable: bool


@dataclass(frozen=True, slots=True)
class Index:
    """An index in which a vector column stands."""

    name: str
    method: str
    opclass: str
    valid: bool
    #: The columns that stand in it, also within an expression.
    columns: Sequence[str]
    definition: str

    @property
    def metric(self) -> Metric | None:
        """The metric that it serves, of those that vecmig has; None for another one."""
        metrics: dict[str, Metric] = {"_cosine_ops": "cosine", "_l2_ops": "l2", "_ip_ops": "ip"}
        return next((metric for ending, metric in metrics.items() if self.opclass.endswith(ending)), None)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the team's that may have vectors."""

    oid: int
    schema: str
    name: str
    #: Schema and name, quoted where SQL needs that.
    object: str
    #: What pg_class calls its kind.
    kind: str
    row_security: bool
    columns: tuple[Attribute, ...] = ()
    #: The columns of its primary key, or of another unique index without NULL; none where it has neither.
    key: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()
    #: Functions with a vector among their arguments that name the table.
    readers: tuple[str, ...] = ()

    def column(self, name: str) -> Attribute | None:
        """Return the column of that name, if it has one."""
        return next((column for column in self.columns if column.name == name), None)

    def has(self, *names: str) -> bool:
        """Return whether it has all these columns."""
        return all(self.column(name) is not None for name in names)


@dataclass(frozen=True, slots=True)
class Size:
    """Vectors of one length in dims, of one part of the table and one model where it names those."""

    #: What divides the table; None where nothing does.
    part: str | None
    #: What the model column says; None where there is no such column, or it is NULL.
    model: str | None
    dims: int
    vectors: int
    #: Of them, those that are zero in each dimension, and those with NaN or infinity in one.
    zero: int
    infinite: int
    #: The lengths of the others: least, median, most; None without any.
    norms: tuple[float, float, float] | None

    @property
    def unit(self) -> bool:
        """Whether all have length 1, as near as half precision keeps it."""
        return self.norms is not None and all(abs(norm - 1) <= NORM_TOLERANCE for norm in self.norms)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a table that are a collection of their own: LangChain keeps all of its collections in one table."""

    value: str | None
    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What the rows of a table say of one of its vector columns."""

    rows: int
    #: Whether all rows were counted; otherwise all figures but those of the sample are estimates.
    exact: bool
    #: How many rows the sizes are of; None for all.
    sample: int | None
    #: Rows with a vector, as many as ``rows`` counts or estimates.
    vectors: int
    sizes: tuple[Size, ...] = ()
    #: How many dims from the left are not zero in a vector, where the rest is zero in all of them; with the number of
    #: vectors in the sample for each, of more than one model.
    padding: tuple[tuple[int, int], ...] = ()
    #: The rows by what the model column says; empty without one.
    models: tuple[tuple[str | None, int], ...] = ()
    model_column: str | None = None
    parts: tuple[Part, ...] = ()
    #: The mean length of the texts in each column of text.
    text_lengths: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Column:
    """One vector column of a table of the team's."""

    table: Table
    attribute: Attribute
    #: None where the rows could not be read.
    measured: Measured | None
    #: Why they could not.
    unread: str = ""
    #: The pgvector's schema, quoted; None where this database has no pgvector.
    pgvector: str | None = None

    @property
    def object(self) -> str:
        """Schema, table and column, quoted where SQL needs that."""
        return f"{self.table.object}.{self.attribute.quoted}"

    @property
    def indexes(self) -> tuple[Index, ...]:
        """The indexes that it stands in."""
        return tuple(index for index in self.table.indexes if self.attribute.name in index.columns)
