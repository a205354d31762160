"""The call of ``m.adopt`` with which the first revision of a collection takes vectors that are there already."""

from __future__ import annotations

from dataclasses import dataclass

from vecmig.config.sql_text import fragment_problem
from vecmig.errors import UsageError
from vecmig.script.template import WIDTH, literal


@dataclass(frozen=True, slots=True)
class AdoptCall:
    """What ``vecmig revision --adopt`` was told, which is what the script will say."""

    #: SQL over the source that gives a vector, a halfvec, an array of floats, or pgvector's text form.
    expression: str
    #: Which records have such a vector; None for all.
    where: str | None = None
    #: Whether the vectors stay in their column; otherwise they are copied.
    in_place: bool = False
    #: Whether the recipe embeds what has no vector; None for what ``m.adopt`` does by itself.
    fill: bool | None = None

    def __post_init__(self) -> None:
        for option, text in (("--adopt", self.expression), ("--adopt-where", self.where)):
            if text is None:
                continue
            what = fragment_problem(text) if text.strip() else "is empty"
            if what is not None:
                raise UsageError(
                    f"{option} {text!r} {what}.",
                    hint="Write SQL over the columns of the source, such as --adopt embedding",
                )

    def __str__(self) -> str:
        """The statement, below a line that says what it does, as they stand in a function's body."""
        fills = not self.in_place if self.fill is None else self.fill
        does = (
            "Leaves the vectors in their column, and reads them there"
            if self.in_place
            else "Copies the vectors that the source has already"
        )
        rest = "embeds the records that have none." if fills else "embeds nothing."
        arguments = [_string(self.expression)]
        if self.where is not None:
            arguments.append(f"where={_string(self.where)}")
        if self.in_place:
            arguments.append('home="column"')
        if self.fill is not None:
            arguments.append(f"fill={self.fill}")
        call = f"m.adopt({', '.join(arguments)})"
        if len(call) > WIDTH - 4:
            call = "".join(["m.adopt(\n", *(f"        {argument},\n" for argument in arguments), "    )"])
        return f"# {does}; {rest}\n    {call}"


def _string(text: str) -> str:
    """Write a text as a formatter would; what no editor shows is written out."""
    if text.isprintable() or '"' in text:
        return literal(text) if text.isprintable() else repr(text)
    # a single quote in it makes Python write double ones
    return f'"{repr(chr(39) + text)[2:]}'
