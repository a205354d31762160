"""What could adopt vectors: a collection, its recipe and its first revision, as they would be written."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import Any, Final

from vecmig.config.collections_text import Entry
from vecmig.inventory.proposing import Proposal
from vecmig.model.tag import Tag
from vecmig.runner.verbs.discover.naming import TakenIn

#: What stands for what a person has to say.
UNKNOWN_MODEL: Final = "MODEL"
UNKNOWN_PROVIDER: Final = "PROVIDER"
#: Who serves models whose name says it.
_PROVIDERS: Final = {
    "openai": re.compile(r"text-embedding-(3-small|3-large|ada-002)"),
    "wordllama": re.compile("wordllama"),
}
#: What may stand before the dims of a tag.
_MODEL: Final = re.compile(r"[^\s@]+(@[^\s@/]+)?")


@dataclass(frozen=True, slots=True)
class Offer:
    """A collection that could adopt vectors, or that is there already."""

    proposal: Proposal
    #: With ``UNKNOWN_MODEL`` where nothing says which model it was.
    tag: str
    #: None where neither the operator nor the model's name says it.
    provider: str | None
    #: Whether the operator has to say what the model is.
    said: bool = False
    #: Whether collections.yaml has it.
    configured: bool = False
    #: The newest revision of the collection, if there is one.
    revision: str | None = None
    #: The script over a pattern that is for it too, if it is new.
    taken_in: TakenIn | None = None
    #: The pattern of the script that would be for it and for what is like it.
    pattern: str | None = None

    @property
    def name(self) -> str:
        """What the collection is called."""
        return self.proposal.collection

    @property
    def model(self) -> str | None:
        """Its model; None where neither the operator nor the table says it."""
        model = Tag.parse(self.tag).model
        return None if model == UNKNOWN_MODEL else model

    def in_place(self) -> Offer:
        """Return the same with vectors that stay in their column; where a script takes it in, that says where."""
        if self.taken_in is not None:
            return self
        return replace(self, proposal=replace(self.proposal, call=replace(self.proposal.call, in_place=True)))

    @property
    def recipe(self) -> Entry:
        """The recipe of its tag, as collections.yaml would have it."""
        fields: dict[str, tuple[Any, str]] = {
            "provider": (self.provider or UNKNOWN_PROVIDER, ""),
            "dims": (self.proposal.dims, ""),
        }
        return Entry(self.tag, fields, flat=True)

    @property
    def collection(self) -> Entry:
        """The collection, as collections.yaml would have it."""
        one = self.proposal
        fields: dict[str, tuple[Any, str]] = {
            "source": (one.source, ""),
            "key": (one.key, ""),
            "text": (one.text, "a guess: is this what was embedded?" if one.text_guessed else ""),
            "where": (one.where, ""),
            "storage": (None if one.storage == "vector" else one.storage, ""),
            "metric": (one.metric, ""),
            "tag": (self.taken_in.leads_to if self.taken_in else self.tag, ""),
        }
        return Entry(self.name, {name: field for name, field in fields.items() if field[0] is not None})

    @property
    def lines(self) -> tuple[str, ...]:
        """What would be added to collections.yaml."""
        recipe = () if self.taken_in else ("tags:", *self.recipe.lines())
        return ("collections:", *self.collection.lines(), *recipe)

    @property
    def revision_command(self) -> str | None:
        """The command that writes its first revision; None where it needs none of its own."""
        if self.taken_in is not None:
            return None
        call = self.proposal.call
        words = ["vecmig", "revision", "--collection", self.pattern or self.name, "--adopt", call.expression]
        words += ["--in-place"] if call.in_place else []
        words += ["--adopt-where", call.where] if call.where is not None else []
        return shlex.join(words)

    @property
    def write_command(self) -> str:
        """The command that writes all of it."""
        words = ["vecmig", "discover", self.name, "--write"]
        if self.taken_in is None and (self.said or self.model is None):
            words += ["--model", self.tag.partition("/dim-")[0].removesuffix("@1")]
        if self.taken_in is None and self.model is not None and self.provider is None:
            words += ["--provider", UNKNOWN_PROVIDER]
        words += ["--in-place"] if self.proposal.call.in_place else []
        return shlex.join(words)


def offer(proposal: Proposal, *, model: str | None, provider: str | None) -> Offer:
    """Return a proposal with what the operator says of its model, or else the table or the model's name.

    Raises:
        TagError: the model's name cannot be a part of a tag.
    """
    read = proposal.model if proposal.model is not None and _MODEL.fullmatch(proposal.model) else None
    tag = Tag.parse(proposal.tag(model or read or UNKNOWN_MODEL))
    known = next((name for name, pattern in _PROVIDERS.items() if pattern.fullmatch(tag.model)), None)
    return Offer(proposal, str(tag), provider or known, said=model is not None)
