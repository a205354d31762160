"""Recipe: everything that makes a tag's vectors, and how its provider is reached."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, Literal, Self

from vecmig.errors import RecipeError, TagError
from vecmig.model.recipe_fields import FIELDS, PROVIDERS, SECRETIVE, no_version
from vecmig.model.request import AUTHENTICATION, VARIABLE, body_problems, canonical, header_problems
from vecmig.model.tag import Tag

Unit = Literal["tokens", "characters"]
Normalise = Literal["apply", "verify", "none"]
TooLong = Literal["reject", "cut"]
#: What went wrong with one field of a recipe: (field name, or "" for the recipe as a whole; what is wrong).
Problem = tuple[str, str]
#: The variable of OpenAI's key, which goes to no other server by itself.
OPENAI_KEY: Final = "OPENAI_API_KEY"
_OPENAI: Final = re.compile(r"https://api\.openai\.com(:443)?(/|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a record's text is cut: pieces of at most ``size`` units, ``overlap`` units shared by neighbours."""

    size: int
    unit: Unit = "tokens"
    overlap: int = 0

    def __str__(self) -> str:
        return f"{self.size} {self.unit}, overlap {self.overlap}"


@dataclass(frozen=True, slots=True)
class Service:
    """How the provider is reached and what it costs. None of it changes a vector, so none is in the fingerprint."""

    #: A compatible server; may hold ``${NAME}``, which is expanded from the environment where it is used.
    base_url: str | None = None
    #: The environment variable that holds the key; the key itself is never configured or stored. None for OPENAI_KEY
    #: where the server is OpenAI's own, and for no key at all where it is another.
    api_key_env: str | None = None
    #: More headers of each request; they may hold ``${NAME}``, as ``base_url`` may.
    headers: Mapping[str, str] | None = field(default=None, hash=False)
    #: What the server calls the model, where that is not the name in the tag: a gateway's route, Azure's deployment.
    request_model: str | None = None
    encoding_format: Literal["base64", "float"] | None = None
    price_per_million_tokens: float = 0.0
    #: Whether backfills order their texts through the Batch API, at half the price, in place of asking for each.
    batch: bool = False
    #: Most inputs, and most tokens, in one request; None for the provider's own limit.
    max_batch: int | None = None
    max_batch_tokens: int | None = None
    #: Requests in flight.
    concurrency: int = 8
    #: Seconds until a request counts as failed.
    timeout: float = 60.0
    #: Most requests, and most tokens, in a minute; None for no limit.
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    #: Most that one revision may cost, in US dollars; None for no limit.
    budget_usd: float | None = None
    #: The Ray cluster of ``--engine ray``; None for RAY_ADDRESS, or a new cluster on this host.
    ray_address: str | None = None
    #: What one worker takes of it.
    num_cpus: float = 1.0
    num_gpus: float = 0.0

    @property
    def backfill_price(self) -> float:
        """US dollars for a million tokens of a backfill."""
        return self.price_per_million_tokens * (BATCH_SHARE if self.batch else 1)

    @property
    def authentication(self) -> str | None:
        """The header of ``headers`` that carries the key, in place of the one in ``api_key_env``; None without one."""
        return next((name for name in self.headers or () if name.lower() in AUTHENTICATION), None)

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that a request may need."""
        url = self.base_url or ""
        openai = not url or "${" in url or is_openai(url)
        key = self.api_key_env or (OPENAI_KEY if openai else None)
        written = (url, *(self.headers or {}).values())
        return (*filter(None, [key]), *(name for text in written for name in VARIABLE.findall(text)))


def is_openai(url: str) -> bool:
    """Return whether an address is OpenAI's own, and cannot be read on the way there."""
    return _OPENAI.match(url) is not None


#: What a token costs through the Batch API, as a share of its price.
BATCH_SHARE: Final = 0.5


def cost_usd(price_per_million_tokens: float, tokens: float) -> float:
    """Return what a number of tokens costs, in US dollars."""
    return price_per_million_tokens * tokens / 1_000_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that makes a tag's vectors. A tag's recipe never changes; ``fingerprint`` tells when it did."""

    provider: str
    model: str
    dims: int
    chunk: Chunking | None = None
    document_prompt: str = "{text}"
    query_prompt: str = "{text}"
    normalise: Normalise = "apply"
    #: ``package.module:function`` of the python provider.
    callable: str | None = None
    #: What becomes of a text above the provider's input limit: the record is rejected, or the text is cut.
    too_long: TooLong = "reject"
    #: The tag of more dims whose vectors this one's are the first dims of; None for one that is embedded by itself.
    derive: str | None = None
    #: More fields of each request's body, as JSON has them; those of ``query_request`` are laid over them for a query.
    request: Mapping[str, Any] | None = field(default=None, hash=False)
    query_request: Mapping[str, Any] | None = field(default=None, hash=False)
    service: Service = field(default=Service())

    @classmethod
    def from_mapping(cls, tag: Tag, data: Mapping[str, Any]) -> Recipe:
        """Build the recipe of ``tag`` from plain data: a YAML mapping, or the jsonb of ``vecmig.tag``.

        Raises:
            RecipeError: a field is unknown, missing, of the wrong type, or disagrees with the tag.
        """
        problems = list(recipe_problems(tag, data))
        if problems:
            sentences = "; ".join(f"{name}: {what}" if name else what for name, what in problems)
            raise RecipeError(f"The recipe of {tag} cannot be used: {sentences}.")
        own = {f.name: data[f.name] for f in fields(cls) if f.name in data and f.name not in ("chunk", "service")}
        own |= {name: canonical(data[name]) or None for name in _BODY_FIELDS if name in data}
        own.setdefault("model", tag.model)
        own.setdefault("normalise", "none" if tag.norm == "none" else "apply")
        chunk = data.get("chunk")
        service = {f.name: data[f.name] for f in fields(Service) if f.name in data}
        return cls(**own, chunk=Chunking(**chunk) if chunk else None, service=Service(**service))

    def to_mapping(self) -> dict[str, Any]:
        """Give the recipe as plain data that ``from_mapping`` reads back to an equal recipe."""
        data = asdict(self)
        # what is off is not written, so that an earlier version reads a recipe that does without it
        return {
            name: value
            for name, value in (data | data.pop("service")).items()
            if value is not None and value is not False
        }

    @property
    def base(self) -> Self | None:
        """The recipe of the tag that it derives from; None for one that is embedded by itself.

        Its vectors may be of any length: what is cut is made length 1 again.
        """
        if self.derive is None:
            return None
        return replace(self, dims=Tag.parse(self.derive).dims, derive=None)

    def derived(self, base: Tag, tag: Tag) -> Self:
        """Return the recipe of ``tag``, whose vectors are the first dims of those of ``base``, of length 1 again."""
        return replace(self, dims=tag.dims, derive=str(base), normalise="apply")

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over the fields that decide what a vector looks like."""
        identity = asdict(self)
        del identity["service"]
        for name in (*_BODY_FIELDS, "derive"):
            # a recipe without them keeps the fingerprint that it had before there were any
            if identity[name] is None:
                del identity[name]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def differences(self, other: Self) -> list[str]:
        """Name the deciding fields that differ, as ``field: ours, not theirs``."""
        names = [f.name for f in fields(self) if f.name not in (*_BODY_FIELDS, "service")]
        pairs = [(name, _shown(getattr(self, name)), _shown(getattr(other, name))) for name in names]
        for name in _BODY_FIELDS:
            ours, theirs = getattr(self, name) or {}, getattr(other, name) or {}
            both = dict.fromkeys([*ours, *theirs])
            pairs += [(f"{name}.{one}", _shown_in(ours, one), _shown_in(theirs, one)) for one in both]
        return [f"{name}: {ours}, not {theirs}" for name, ours, theirs in pairs if ours != theirs]


#: The fields of a recipe that are added to a request's body.
_BODY_FIELDS: Final = ("request", "query_request")


def _shown(value: object) -> str:
    return "none" if value is None else str(value) if isinstance(value, Chunking) else repr(value)


def _shown_in(body: Mapping[str, Any], name: str) -> str:
    """Write one field of a request's body as JSON, where null is not the same as nothing."""
    return json.dumps(body[name], sort_keys=True, ensure_ascii=False) if name in body else "none"


def recipe_problems(tag: Tag, data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield everything that is wrong with a recipe, one field at a time, so that all can be shown at once."""
    for name, value in data.items():
        if name not in FIELDS:
            yield name, f"unknown field; a recipe has {', '.join(sorted(FIELDS))}"
        elif not FIELDS[name](value):
            # what stands there may be a key or a password that was pasted into the wrong place
            shown = "its value" if name in SECRETIVE else repr(value)
            yield name, f"{shown} is not {FIELDS[name].__doc__}{no_version(value) if name == 'base_url' else ''}"
    provider = data.get("provider")
    if provider is None:
        yield "", f"provider is missing: one of {', '.join(PROVIDERS)}"
    if provider == "python" and not data.get("callable"):
        yield "", 'the python provider needs callable: "package.module:function"'
    if provider != "python" and data.get("callable"):
        yield "callable", "only the python provider has one"
    yield from _request_problems(tag, data)
    if data.get("budget_usd") is not None and not data.get("price_per_million_tokens"):
        yield "budget_usd", "price_per_million_tokens must say what tokens cost, or it is not known when it is spent"
    yield from _disagreements(tag, data)
    if isinstance(data.get("derive"), str):
        yield from (("derive", what) for what in derivation_problems(tag, data["derive"]))


def derivation_problems(tag: Tag, base: str) -> Iterator[str]:
    """Yield why the vectors of one tag cannot be the first dims of those of another."""
    try:
        other = Tag.parse(base)
    except TagError as error:
        yield error.message.removesuffix(".")
        return
    if other.dims <= tag.dims:
        yield f"{other} has {other.dims:,} dims, from which no {tag.dims:,} can be cut"
    for what in ("model", "version", "chunk"):
        ours, theirs = getattr(tag, what), getattr(other, what)
        if ours != theirs:
            yield f"the {what} of {other} is {theirs or 'none'}, and that of {tag} {ours or 'none'}"
    if tag.norm != "l2":
        yield "what is cut is made length 1 again: the tag says norm-l2 then"


def _request_problems(tag: Tag, data: Mapping[str, Any]) -> Iterator[Problem]:
    for name in (*_BODY_FIELDS, "headers", "request_model", "batch"):
        if data.get(name, False) is not False and data.get("provider") in PROVIDERS[1:]:
            yield name, "only the openai provider has it"
    for name in _BODY_FIELDS:
        if name in data:
            yield from ((name, what) for what in body_problems(data[name], model=tag.model, dims=tag.dims))
    if "headers" in data:
        found = list(header_problems(data["headers"]))
        yield from (("headers", what) for what in found)
        key = None if found else Service(headers=data["headers"]).authentication
        if key is not None and data.get("api_key_env") not in (None, OPENAI_KEY):
            yield "api_key_env", f"the header {key} is sent in its place; keep one of them"


def _disagreements(tag: Tag, data: Mapping[str, Any]) -> Iterator[Problem]:
    if "dims" not in data:
        yield "", f"dims is missing: the tag says {tag.dims}"
    elif data["dims"] != tag.dims:
        yield "dims", f"{data['dims']!r}, but the tag says dim-{tag.dims}"
    if "model" in data and data["model"] != tag.model:
        yield "model", f"{data['model']!r}, but the tag says {tag.model}"
    chunk = data.get("chunk")
    if isinstance(chunk, Mapping):
        size, overlap = chunk.get("size"), chunk.get("overlap", 0)
        if size != tag.chunk:
            yield "chunk", f"size {size!r}, but the tag says chunk-{tag.chunk or 'none'}"
        elif isinstance(size, int) and isinstance(overlap, int) and overlap >= size:
            yield "chunk", f"overlap {overlap} is not smaller than size {size}"
    elif chunk is None and tag.chunk is not None:
        yield (
            "",
            f"the tag says chunk-{tag.chunk}, so chunk: {{size: {tag.chunk}, unit: tokens, overlap: 0}} is missing",
        )
    normalise = data.get("normalise")
    if normalise in ("apply", "verify") and tag.norm == "none":
        yield "normalise", f"{normalise!r}, but the tag says norm-none"
    if normalise == "none" and tag.norm == "l2":
        yield "normalise", "'none', but the tag says norm-l2"
