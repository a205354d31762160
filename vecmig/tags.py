"""Tag, Recipe and Gate: the pure values that a migration is made of."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, Self

from vecmig.errors import RecipeError, TagError
from vecmig.recipe_fields import FIELDS, PROVIDERS, SECRETIVE, is_amount, is_count, no_version
from vecmig.request import AUTHENTICATION, VARIABLE, body_problems, canonical, header_problems

Unit = Literal["tokens", "characters"]
Norm = Literal["l2", "none"]
Normalise = Literal["apply", "verify", "none"]
TooLong = Literal["reject", "cut"]
#: What went wrong with one field of a recipe: (field name, or "" for the recipe as a whole; what is wrong).
Problem = tuple[str, str]

#: How far a vector's length may be from 1 under norm-l2: half precision, in storage or on a server, keeps about three
#: decimal digits.
NORM_TOLERANCE: Final = 0.01
#: The variable of OpenAI's key, which goes to no other server by itself.
OPENAI_KEY: Final = "OPENAI_API_KEY"
#: pgvector's own limit for a value of type vector, and for halfvec.
MAX_DIMS: Final = 16_000
MAX_TAG_LENGTH: Final = 200

_TAG_EXAMPLE: Final = "text-embedding-3-small@1/dim-1536/chunk-none/norm-l2"
_TAG = re.compile(r"(?P<model>[^\s@]+)@(?P<version>[^\s@/]+)/(?P<parts>[^\s@]+)")
_OPENAI: Final = re.compile(r"https://api\.openai\.com(:443)?(/|$)", re.IGNORECASE)
_LABEL = re.compile(r"[a-z][a-z0-9]*-[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Tag:
    """The name on every vector: which model made it, in which version, with which parameters.

    ``str(tag)`` is the canonical form, the only one that is stored or compared:
    ``model@version/dim-N/chunk-none|chunk-N/norm-l2|norm-none`` and then any labels in alphabetical order.
    """

    model: str
    version: str
    dims: int
    #: Largest size of a chunk, in the recipe's unit; None for ``chunk-none``.
    chunk: int | None
    norm: Norm
    #: Further parts of the form ``word-value``, sorted; they tell apart recipes that differ in, say, a prompt.
    labels: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Tag:
        """Read a tag whose parts may stand in any order.

        Raises:
            TagError: it does not follow the grammar; the message says which part and what to write.
        """
        match = _TAG.fullmatch(text)
        if match is None:
            raise TagError(f"{text!r} is not a tag.", hint=f"A tag reads model@version/part/part…, like {_TAG_EXAMPLE}")
        if len(text) > MAX_TAG_LENGTH:
            raise TagError(f"The tag {text[:40]!r}… has {len(text)} characters; at most {MAX_TAG_LENGTH} are allowed.")
        parts = _Parts(text)
        for part in match["parts"].split("/"):
            parts.add(part)
        return cls(match["model"], match["version"], *parts.finish())

    def __str__(self) -> str:
        chunk = "none" if self.chunk is None else str(self.chunk)
        parts = (f"dim-{self.dims}", f"chunk-{chunk}", f"norm-{self.norm}", *self.labels)
        return f"{self.model}@{self.version}/{'/'.join(parts)}"


class _Parts:
    """Collects the parts of one tag and complains about each in the words of its author."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._named: dict[str, str] = {}
        self._labels: set[str] = set()

    def add(self, part: str) -> None:
        word, _, value = part.partition("-")
        if word in ("dim", "chunk", "norm"):
            if word in self._named:
                raise self._error(f"says {word} twice")
            self._named[word] = value
        elif _LABEL.fullmatch(part) is None:
            raise self._error(f"has a part {part!r} that is not of the form word-value")
        elif part in self._labels:
            raise self._error(f"says {part} twice")
        else:
            self._labels.add(part)

    def finish(self) -> tuple[int, int | None, Norm, tuple[str, ...]]:
        dims = self._number("dim", self._take("dim", "dim-256"))
        if dims > MAX_DIMS:
            raise self._error(f"says dim-{dims}; pgvector stores at most {MAX_DIMS} dimensions")
        chunk = self._take("chunk", "chunk-none or chunk-512")
        norm = self._take("norm", "norm-l2 or norm-none")
        if norm not in ("l2", "none"):
            raise self._error(f"says norm-{norm}; write norm-l2 or norm-none")
        size = None if chunk == "none" else self._number("chunk", chunk)
        return dims, size, norm, tuple(sorted(self._labels))  # type: ignore[return-value]  # narrowed just above

    def _take(self, word: str, example: str) -> str:
        if word not in self._named:
            raise self._error(f"does not say its {word}: add {example}")
        return self._named[word]

    def _number(self, word: str, value: str) -> int:
        if re.fullmatch(r"[1-9][0-9]{0,8}", value) is None:
            raise self._error(f"says {word}-{value}; a whole number from 1 is needed, without leading zeros")
        return int(value)

    def _error(self, what: str) -> TagError:
        return TagError(f"The tag {self._text!r} {what}.", hint=f"A complete tag looks like {_TAG_EXAMPLE}")


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


def cost_usd(price_per_million_tokens: float, tokens: float) -> float:
    """Give what so many tokens cost, in US dollars."""
    return price_per_million_tokens * tokens / 1_000_000


def dollars(usd: float, places: int = 2) -> str:
    """Write an amount of money. Below ten cents it has four places, and as many more as keep it from looking like 0.

    Args:
        usd: not below 0.
        places: how many the amount has otherwise.
    """
    if 0 < usd < 0.0001:
        places = 1 - math.floor(math.log10(usd))
    elif 0 < usd < 0.1:
        places = 4
    return f"${usd:,.{places}f}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that makes a tag's vectors. A tag has one recipe for ever; ``fingerprint`` tells when it changed."""

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
        return {name: value for name, value in (data | data.pop("service")).items() if value is not None}

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over the fields that decide what a vector looks like."""
        identity = asdict(self)
        del identity["service"]
        for name in _BODY_FIELDS:
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
        yield "budget_usd", "price_per_million_tokens must say what tokens cost, or nobody can tell when it is spent"
    yield from _disagreements(tag, data)


def _request_problems(tag: Tag, data: Mapping[str, Any]) -> Iterator[Problem]:
    for name in (*_BODY_FIELDS, "headers", "request_model"):
        if name in data and data.get("provider") in PROVIDERS[1:]:
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


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _require(owner: object, name: str, needed: str, *, holds: bool) -> None:
    if not holds:
        value = getattr(owner, name)
        raise RecipeError(f"{type(owner).__name__}({name}={value!r}): {needed}")


@dataclass(frozen=True, slots=True)
class NoWorse:
    """The new tag must be shown to be no worse than the old one, by a suite of ``evals/`` and one of its metrics."""

    suite: str
    #: As ``vecmig eval`` names it, such as nDCG@10.
    metric: str
    #: By how much the mean may be lower and still count as no worse.
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        for name in ("suite", "metric"):
            value = getattr(self, name)
            _require(self, name, "a name is needed.", holds=isinstance(value, str) and bool(value.strip()))
        _require(self, "tolerance", "a number from 0 to 1 is needed, such as 0.02.", holds=_share(self.tolerance))


@dataclass(frozen=True, slots=True)
class MinSamples:
    """So many searches of the application must have been answered by both tags: ``vecmig route --shadow``."""

    count: int

    def __post_init__(self) -> None:
        _require(self, "count", "a whole number from 1 is needed, such as 500.", holds=is_count(self.count))


@dataclass(frozen=True, slots=True)
class Gate:
    """What must hold before reads move to a revision's new tag. There is no override but a change of the revision."""

    #: Smallest share of the eligible records that must have a fresh vector under the new tag.
    coverage: float = 0.995
    #: Largest share of the eligible records that may lack one because they changed lately.
    freshness_budget: float = 0.005
    #: What evals must have shown.
    evals: Sequence[NoWorse] = ()
    #: How many searches both tags must have answered.
    shadow: MinSamples | None = None

    def __post_init__(self) -> None:
        for name in ("coverage", "freshness_budget"):
            needed = "a share from 0 to 1 is needed, such as 0.995."
            _require(self, name, needed, holds=_share(getattr(self, name)))
        evals: Any = self.evals
        listed = isinstance(evals, list | tuple) and all(isinstance(one, NoWorse) for one in evals)
        _require(self, "evals", 'a list is needed, such as [NoWorse("suite", "nDCG@10")].', holds=listed)
        shadow: Any = self.shadow
        fits = shadow is None or isinstance(shadow, MinSamples)
        _require(self, "shadow", "MinSamples(…) is needed, such as MinSamples(500).", holds=fits)


@dataclass(frozen=True, slots=True)
class Trust:
    """What a new tag must have earned before the vectors of the old one may be retired."""

    #: Days for which it served all reads.
    days: float = 21
    #: Runs of evals on so many different days, none of them showing it to be worse.
    eval_days: int = 3

    def __post_init__(self) -> None:
        real = is_amount(self.days)
        _require(self, "days", "a number of days from 0 is needed, such as 21.", holds=real)
        whole = self.eval_days == 0 or is_count(self.eval_days)
        _require(self, "eval_days", "a whole number from 0 is needed, such as 3.", holds=whole)
