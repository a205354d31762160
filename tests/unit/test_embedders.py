"""What all embedders have in common, and the three that run on this machine."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from vecmig.embedders import BaseEmbedder, Kind, Reply, Retry, cut_to_limit, open_embedder, over_limit, row_problems
from vecmig.embedders.fault import HARMLESS
from vecmig.embedders.verifying import verified
from vecmig.errors import (
    PoisonInputError,
    RecipeError,
    TerminalEmbedderError,
    TransientEmbedderError,
    UsageError,
    VecmigError,
)
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag
from vecmig.text import duration

TAG = Tag.parse("m@1/dim-2/chunk-none/norm-l2")


def recipe(tag: Tag = TAG, **fields: Any) -> Recipe:
    return Recipe.from_mapping(tag, {"provider": "openai", "dims": tag.dims} | fields)


class Fixed(BaseEmbedder):
    """Gives what it is told to, and keeps what it was asked."""

    def __init__(self, answer: Any, **fields: Any) -> None:
        super().__init__(str(TAG), recipe(**fields))
        self.answer = answer
        self.asked: list[tuple[list[str], Kind]] = []

    def _request(self, texts: list[str], kind: Kind) -> Reply:
        self.asked.append((texts, kind))
        return Reply(np.array(self.answer, dtype=np.float64))

    def count_tokens(self, text: str) -> int:
        return len(text)


def refusal(kind: type[VecmigError], *calls: Any) -> VecmigError:
    with pytest.raises(kind) as caught:
        calls[0](*calls[1:])
    assert type(caught.value) is kind
    return caught.value


def test_documents_and_queries_have_their_own_prompts_and_braces_mean_nothing() -> None:
    embedder = Fixed([[1, 0]], document_prompt="passage: {text}", query_prompt="query: {text} {0}")
    embedder.embed_documents(["a {text} {b}"])
    embedder.embed_queries(["c"])
    assert embedder.asked == [(["passage: a {text} {b}"], "document"), (["query: c {0}"], "query")]


def test_no_texts_need_no_request() -> None:
    embedder = Fixed([])
    assert embedder.embed_documents([]).shape == (0, 2)
    assert embedder.asked == []


def test_blank_texts_are_never_sent() -> None:
    embedder = Fixed([[1, 0]], document_prompt="passage: {text}")
    assert (
        refusal(PoisonInputError, embedder.embed_documents, ["a", " \n"]).message == "A blank text cannot be embedded."
    )
    assert refusal(UsageError, embedder.embed_queries, [""]).message == "A blank query cannot be embedded."
    assert refusal(UsageError, embedder.embed_queries, ["\udcff"]).message == "The query is not valid UTF-8."
    assert embedder.asked == []


def test_vectors_are_normalised_and_bad_rows_are_left_alone() -> None:
    vectors = Fixed([[3, 4], [0, 0], [np.nan, 1], [np.inf, 1], [1e38, 0], [1e-30, 0], [1e300, 0]]).embed_documents(
        list("abcdefg")
    )
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(
        vectors,
        np.array([[0.6, 0.8], [0, 0], [np.nan, 1], [np.inf, 1], [1, 0], [1, 0], [np.inf, 0]], dtype=np.float32),
    )
    assert row_problems(vectors) == {
        1: "the vector has zero norm",
        2: "the vector holds NaN or infinity",
        3: "the vector holds NaN or infinity",
        6: "the vector holds NaN or infinity",
    }


def test_what_halfvec_cannot_hold_is_a_problem_there_only() -> None:
    rows = np.array([[1, 2], [65504, 1], [65520, 1], [1e30, 0], [1e-9, 0], [0, 0], [np.nan, 1]], dtype=np.float32)
    plain = {5: "the vector has zero norm", 6: "the vector holds NaN or infinity"}
    assert row_problems(rows) == plain
    assert row_problems(rows, storage="halfvec") == plain | {
        2: "rounded to halfvec, the vector holds NaN or infinity",
        3: "rounded to halfvec, the vector holds NaN or infinity",
        4: "rounded to halfvec, the vector has zero norm",
    }


def test_lengths_that_norm_l2_forbids_are_problems_as_the_database_sees_them() -> None:
    rows = np.array([[1, 0], [0.9899, 0], [0.9902, 0], [1.0099, 0], [1.0101, 0], [np.inf, 0]], dtype=np.float32)
    refused = "the vector has length {}, which norm-l2 does not allow"
    plain = {1: refused.format(0.9899), 4: refused.format(1.01), 5: "the vector holds NaN or infinity"}
    assert row_problems(rows, unit=True) == plain
    edge = np.full((1, 6), 0.99002 / np.sqrt(6), dtype=np.float32)
    assert row_problems(edge, unit=True) == {}
    assert row_problems(edge, unit=True, storage="halfvec") == {0: refused.format(0.9897)}


def test_verifying_accepts_half_precision_and_bad_rows_but_not_other_lengths() -> None:
    assert Fixed([[0.998, 0], [0, 0], [np.nan, 1]], normalise="verify").embed_documents(list("abc"))[0, 0] == (
        np.float32(0.998)
    )
    error = refusal(TerminalEmbedderError, Fixed([[1, 0], [3, 4]], normalise="verify").embed_documents, ["a", "b"])
    assert error.message == (
        "The provider openai gave a vector of length 5 for m; the recipe says that it normalises (normalise: verify)."
    )
    assert error.hint == "Make a new tag whose recipe says normalise: apply"


def test_norm_none_changes_nothing() -> None:
    tag = Tag.parse("m@1/dim-2/chunk-none/norm-none")
    embedder = Fixed([[3, 4]])
    embedder.recipe = recipe(tag)
    np.testing.assert_array_equal(embedder.embed_documents(["a"]), [[3, 4]])


@pytest.mark.parametrize(
    ("answer", "message", "hint"),
    [
        (
            [[1, 0]],
            "The provider openai gave an array of shape (1, 2) for 2 texts of m; it must be (2, 2).",
            "",
        ),
        ([1, 0], "The provider openai gave an array of shape (2,) for 2 texts of m; it must be (2, 2).", ""),
        (
            [[1, 0, 0], [0, 1, 0]],
            "The provider openai gave vectors of 3 dimensions for m; the tag says 2.",
            (
                "If 3 is right, make a new tag with dim-3; if the model can make 2 too, add to the recipe: request: "
                "{dimensions: 2}"
            ),
        ),
    ],
)
def test_answers_of_the_wrong_shape(answer: Any, message: str, hint: str) -> None:
    error = refusal(TerminalEmbedderError, Fixed(answer).embed_documents, ["a", "b"])
    assert (error.message, error.hint) == (message, hint)


floats = st.floats(width=32)


@example(np.array([[3e-45, 1e-45], [3.4e38, 3.4e38], [1e-20, 1e-20], [0, 1e-45]], dtype=np.float32))
@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(2)), elements=floats))
def test_every_row_is_a_unit_vector_or_a_problem(answer: NDArray[np.float32]) -> None:
    vectors = verified(Fixed(answer).recipe, answer, len(answer))
    problems = row_problems(vectors)
    for row, vector in enumerate(vectors):
        assert row in problems or abs(np.linalg.norm(vector.astype(np.float64)) - 1) < 1e-5


def test_input_limits_count_the_prompt() -> None:
    embedder = Fixed([[1, 0]], document_prompt="doc {text}")
    assert over_limit(embedder, "x" * 1000) is None
    assert cut_to_limit(embedder, "x" * 1000) == "x" * 1000
    embedder.max_input_tokens = 10
    assert over_limit(embedder, "123456") is None
    assert over_limit(embedder, "1234567") == 11
    assert cut_to_limit(embedder, "1234567") == "123456"
    embedder.max_input_tokens = 4
    assert refusal(PoisonInputError, cut_to_limit, embedder, "1234567").message == (
        "The document prompt leaves no room for the text."
    )


class Failing(Fixed):
    """Fails so many times with ``error``, then works."""

    def __init__(self, times: int, error: VecmigError, retry: Retry) -> None:
        super().__init__([[1, 0]])
        self.retry = retry
        self.failures: list[VecmigError | None] = [error] * times

    def _request(self, texts: list[str], kind: Kind) -> Reply:
        if self.failures and (failure := self.failures.pop()) is not None:
            self.asked.append((texts, kind))
            raise failure
        return super()._request(texts, kind)


def test_transient_failures_are_tried_again_and_told() -> None:
    waits: list[float] = []
    told: list[tuple[str, float]] = []
    retry = Retry(sleep=waits.append, notify=lambda error, seconds: told.append((error.message, seconds)))
    embedder = Failing(5, TransientEmbedderError("Busy."), retry)
    assert embedder.embed_documents(["a"]).shape == (1, 2)
    assert len(embedder.asked) == 6
    assert told == [("Busy.", wait) for wait in waits]
    assert len(waits) == 5
    assert all(0 <= wait <= 0.5 * 2**attempt for attempt, wait in enumerate(waits))


def test_attempts_are_bounded_and_counted() -> None:
    embedder = Failing(99, TransientEmbedderError("Busy.", hint="Wait"), Retry(attempts=3, sleep=lambda _: None))
    error = refusal(TransientEmbedderError, embedder.embed_documents, ["a"])
    assert (error.message, error.hint) == ("Busy. It failed 3 times in a row.", "Wait")
    assert len(embedder.asked) == 3


def test_retry_after_is_a_lower_bound_and_a_long_one_ends_the_run() -> None:
    waits: list[float] = []
    retry = Retry(attempts=2, sleep=waits.append)
    Failing(1, TransientEmbedderError("Busy.", retry_after=7.5), retry).embed_documents(["a"])
    assert waits == [7.5]
    embedder = Failing(1, TransientEmbedderError("Busy.", retry_after=3600), retry)
    error = refusal(TransientEmbedderError, embedder.embed_documents, ["a"])
    assert error.message == "Busy. It failed once and asks to wait 3600 s."
    assert waits == [7.5]


def test_a_backfill_waits_without_end_as_long_as_it_is_asked_to() -> None:
    waits: list[float] = []
    retry = Retry(attempts=None, most=60, sleep=waits.append)
    assert Failing(500, TransientEmbedderError("Busy."), retry).embed_documents(["a"]).shape == (1, 2)
    assert len(waits) == 500
    assert max(waits) <= 60
    assert sum(waits[100:]) / 400 > 20, "not a request a second at a server that is down"
    waits.clear()
    Failing(1, TransientEmbedderError("Busy.", retry_after=3600), retry).embed_documents(["a"])
    assert waits == [3600]


@dataclass
class Away:
    """A provider that never answers, and the time that is spent on it: a try takes a second."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)

    def retry(self, wait: float) -> Retry:
        """Wait for so many seconds, on this clock."""
        return Retry(attempts=None, wait=wait, most=60, silent_for=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.waits.append(seconds)
        self.now += seconds

    def failures(self, error: VecmigError) -> Iterator[VecmigError]:
        """Fail after a second, again and again."""
        while True:
            self.now += 1
            yield error


class Dead(Fixed):
    """Is asked again and again, and never answers."""

    def __init__(self, away: Away, error: VecmigError, wait: float) -> None:
        super().__init__([[1, 0]])
        self.retry = away.retry(wait)
        self.failures = away.failures(error)

    def _request(self, texts: list[str], kind: Kind) -> Reply:
        self.asked.append((texts, kind))
        raise next(self.failures)


def test_a_dead_provider_is_waited_for_as_long_as_that_is_worth() -> None:
    away = Away()
    embedder = Dead(away, TransientEmbedderError("Busy.", hint="Look"), 600)
    error = refusal(TransientEmbedderError, embedder.embed_documents, ["a"])
    assert (
        error.message
        == f"Busy. It has answered no request for {duration(round(away.now))}, and provider_wait is 10 min."
    )
    assert error.hint == (
        "Look\nRun the same command again when the provider is back: it goes on from there. Longer: --provider-wait"
    )
    assert 600 <= away.now <= 601, "the last try is at the end of the wait, not a minute behind it"
    assert len(embedder.asked) > 10


def test_no_wait_is_one_try() -> None:
    away = Away()
    embedder = Dead(away, TransientEmbedderError("Busy."), 0)
    error = refusal(TransientEmbedderError, embedder.embed_documents, ["a"])
    assert error.message == "Busy. It has answered no request for 1 s, and provider_wait is 0 s."
    assert (len(embedder.asked), away.waits) == (1, [])


def test_a_provider_that_asks_for_more_than_is_left_ends_the_wait_at_once() -> None:
    away = Away()
    embedder = Dead(away, TransientEmbedderError("Busy.", retry_after=590), 600)
    error = refusal(TransientEmbedderError, embedder.embed_documents, ["a"])
    assert error.message == "Busy. It asks to wait 9 min 50 s, and 8 s are left of provider_wait (10 min)."
    assert away.waits == [590], "590 of the 599 seconds that were left at first"


def test_whoever_has_other_answers_is_not_waiting_for_a_dead_provider() -> None:
    waits: list[float] = []
    retry = Retry(attempts=None, wait=1, silent_for=lambda: 0.0, sleep=waits.append)
    assert Failing(200, TransientEmbedderError("Busy."), retry).embed_documents(["a"]).shape == (1, 2)
    assert len(waits) == 200


def test_failures_that_waiting_does_not_cure_are_counted_apart() -> None:
    senseless = TransientEmbedderError("Senseless.", attempts=3, hint="Look")
    busy = TransientEmbedderError("Busy.")
    embedder = Failing(0, busy, Retry(attempts=None, sleep=lambda _: None))
    # the last one comes first
    embedder.failures = [senseless, senseless, *[busy] * 20, senseless, senseless, *[busy] * 10]
    assert embedder.embed_documents(["a"]).shape == (1, 2)
    embedder.failures = [senseless] * 9
    error = refusal(TerminalEmbedderError, embedder.embed_documents, ["a"])
    assert (error.message, error.hint) == ("Senseless.", "Look")
    assert len(embedder.failures) == 6


@pytest.mark.parametrize(
    ("kind", "asked"), [(TerminalEmbedderError, [["a"]]), (PoisonInputError, [["a"], [HARMLESS], ["a"]])]
)
def test_other_failures_are_not_tried_again(kind: type[VecmigError], asked: list[list[str]]) -> None:
    embedder = Failing(0, kind("No."), Retry(sleep=lambda _: pytest.fail("waited")))
    # the last one comes first, and what is sent in between is taken
    embedder.failures = [kind("No."), None, kind("No.")] if len(asked) > 1 else [kind("No.")]
    refusal(kind, embedder.embed_documents, ["a"])
    assert [texts for texts, _ in embedder.asked] == asked


# wordllama


def llama(dims: int, **fields: Any) -> Any:
    tag = Tag.parse(f"wordllama@0.4/dim-{dims}/chunk-none/norm-l2")
    return open_embedder(str(tag), recipe(tag, provider="wordllama", **fields))


@pytest.mark.parametrize("dims", [64, 128, 256])
def test_wordllama_gives_what_wordllama_gives(dims: int) -> None:
    embedder = llama(dims)
    import wordllama

    texts = ["The cat sat on the mat.", "x", "A much longer text, with é and 漢字 " * 30]
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True, trunc_dim=dims)
    expected = model.embed(texts, norm=True)
    np.testing.assert_allclose(embedder.embed_documents(texts), expected, atol=1e-6)
    np.testing.assert_array_equal(embedder.embed_queries(texts), embedder.embed_documents(texts))


def test_wordllama_gives_the_same_vector_whatever_the_batch() -> None:
    embedder = llama(64)
    alone = embedder.embed_documents(["short"])
    np.testing.assert_array_equal(embedder.embed_documents(["short", "long " * 20_000])[0], alone[0])


def test_wordllama_understands_a_little() -> None:
    cat, kitten, tax = llama(256).embed_documents(["a cat", "a kitten", "income tax law"])
    assert cat @ kitten > cat @ tax


def test_wordllama_counts_tokens_and_knows_no_limit() -> None:
    embedder = llama(64)
    assert embedder.count_tokens("The cat sat on the mat.") == 7
    assert (embedder.max_batch, embedder.max_input_tokens, llama(64, max_batch=7).max_batch) == (1024, None, 7)


def test_wordllama_sizes_and_models() -> None:
    assert refusal(RecipeError, llama, 100).message == (
        "The provider wordllama gives 64, 128 or 256 dimensions, not 100."
    )
    tag = Tag.parse("big@1/dim-64/chunk-none/norm-l2")
    error = refusal(RecipeError, open_embedder, str(tag), recipe(tag, provider="wordllama"))
    assert error.message == "The provider wordllama has no model 'big'; it has wordllama."


def test_wordllama_leaves_logging_alone() -> None:
    """Also where a service opens it for several tags at once."""
    script = """
        import logging, threading, time
        from vecmig.embedders import open_embedder
        from vecmig.model.recipe import Recipe
        from vecmig.model.tag import Tag
        tag = Tag.parse("wordllama@0.4/dim-64/chunk-none/norm-l2")
        recipe = Recipe.from_mapping(tag, {"provider": "wordllama", "dims": 64})
        # importing it takes half a second
        threads = [threading.Thread(target=open_embedder, args=[str(tag), recipe]) for _ in range(40)]
        for thread in threads:
            thread.start()
            time.sleep(0.02)
        for thread in threads:
            thread.join()
        print(logging.getLogger().handlers, logging.getLogger().level == logging.WARNING)
    """
    assert _python(script) == "[] True\n"


def test_opening_imports_only_its_own_provider() -> None:
    script = """
        import sys
        import vecmig.embedders
        print([name for name in ("openai", "wordllama", "sentence_transformers", "torch") if name in sys.modules])
    """
    assert _python(script) == "[]\n"


def _python(script: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("module", "provider", "extra"),
    [
        ("wordllama", "wordllama", "embedded"),
        ("sentence_transformers", "sentence-transformers", "sentence-transformers"),
    ],
)
def test_a_provider_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, module: str, provider: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    tag = Tag.parse("wordllama@0.4/dim-64/chunk-none/norm-l2")
    error = refusal(RecipeError, open_embedder, str(tag), recipe(tag, provider=provider))
    assert error.message == f"The provider {provider} is not installed."
    assert error.hint == f"Run: pip install 'vecmig[{extra}]'"


# python


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Open the embedder of a function that stands in a module of the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])

    def opened(source: str, function: str = "embed") -> Any:
        (tmp_path / "acme_embeddings.py").write_text(textwrap.dedent(source))
        monkeypatch.delitem(sys.modules, "acme_embeddings", raising=False)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        name = f"acme_embeddings:{function}"
        retry = Retry(attempts=2, sleep=lambda _: None)
        return open_embedder(str(TAG), recipe(provider="python", callable=name), retry=retry)

    return opened


@pytest.mark.parametrize(
    ("source", "passes_kind"),
    [
        ("def embed(texts): return [[1, 0] for _ in texts]", False),
        ("def embed(texts, batch=3): return [[batch, 0] for _ in texts]", False),
        ("def embed(texts, kind): return [[kind == 'document', kind == 'query'] for _ in texts]", True),
        ("def embed(texts, *, kind='x'): return [[kind == 'document', kind == 'query'] for _ in texts]", True),
        ("def embed(texts, what): return [[what == 'document', what == 'query'] for _ in texts]", True),
        ("class E:\n  def __call__(self, texts): return [[1, 0] for _ in texts]\nembed = E()", False),
    ],
)
def test_a_callable_takes_the_kind_if_it_wants_to(acme: Any, source: str, passes_kind: bool) -> None:
    embedder = acme(source)
    np.testing.assert_array_equal(embedder.embed_documents(["a", "b"]), [[1, 0], [1, 0]])
    np.testing.assert_array_equal(embedder.embed_queries(["a"]), [[0, 1]] if passes_kind else [[1, 0]])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def embed(texts): raise KeyError('x')", "The callable acme_embeddings:embed raised KeyError: 'x'."),
        (
            "def embed(texts): return None",
            "The provider python gave an array of shape () for 1 texts of m; it must be (1, 2).",
        ),
        (
            "def embed(texts): return [['a', 'b']]",
            "The callable acme_embeddings:embed gave list, not an array of numbers of shape (n, dims).",
        ),
        (
            "def embed(texts): return [[1, 0], [1, 0]]",
            "The provider python gave an array of shape (2, 2) for 1 texts of m; it must be (1, 2).",
        ),
        ("def embed(texts): return [[1]]", "The provider python gave vectors of 1 dimensions for m; the tag says 2."),
    ],
)
def test_a_callable_that_fails(acme: Any, source: str, message: str) -> None:
    assert refusal(TerminalEmbedderError, acme(source).embed_documents, ["a"]).message == message


def test_a_callable_may_say_what_its_failure_means(acme: Any) -> None:
    embedder = acme(
        """
        from vecmig.errors import TransientEmbedderError
        calls = []
        def embed(texts):
            calls.append(1)
            if len(calls) == 1:
                raise TransientEmbedderError("Busy.")
            return [[1, 0] for _ in texts]
        """
    )
    assert embedder.embed_documents(["a"]).shape == (1, 2)


@pytest.mark.parametrize(
    ("source", "function", "what"),
    [
        ("", "embed", "AttributeError: module 'acme_embeddings' has no attribute 'embed'"),
        ("import no_such_thing", "embed", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("1 / 0", "embed", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_callable_that_cannot_be_imported(acme: Any, source: str, function: str, what: str) -> None:
    error = refusal(RecipeError, acme, source, function)
    assert error.message == f"The callable acme_embeddings:{function} cannot be imported: {what}."
    assert error.hint == f"vecmig looks for it in {Path.cwd()} and among the installed packages"


def test_a_callable_that_is_none(acme: Any) -> None:
    assert refusal(RecipeError, acme, "embed = 3").message == "acme_embeddings:embed is int, not a function."


# sentence-transformers: a module of that name on disk stands for the package, which needs PyTorch and a download

FAKE = """
import numpy as np

class Tokenizer:
    def __call__(self, text, truncation):
        assert truncation is False
        return {"input_ids": [101, *text.split(), 102]}

class SentenceTransformer:
    max_seq_length = 5
    tokenizer = Tokenizer()

    def __init__(self, model):
        if model == "missing":
            raise OSError("missing is not a model")
        self.model = model

    def encode(self, texts, *, prompt, convert_to_numpy, show_progress_bar):
        assert prompt == "" and convert_to_numpy and not show_progress_bar
        if "boom" in texts[0]:
            raise RuntimeError("out of memory")
        return np.array([[len(text), 0] for text in texts], dtype=np.float16)
"""


@pytest.fixture
def transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Open an embedder of the package's stand-in."""
    (tmp_path / "sentence_transformers.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sentence_transformers", raising=False)

    def opened(model: str = "m") -> Any:
        tag = Tag.parse(f"{model}@1/dim-2/chunk-none/norm-l2")
        return open_embedder(str(tag), recipe(tag, provider="sentence-transformers", document_prompt="d {text}"))

    yield opened
    sys.modules.pop("sentence_transformers", None)


def test_sentence_transformers(transformers: Any) -> None:
    embedder = transformers()
    np.testing.assert_array_equal(embedder.embed_documents(["a", "bcd"]), [[1, 0], [1, 0]])
    assert embedder.max_input_tokens == 5
    assert [over_limit(embedder, text) for text in ("one two", "one two three")] == [None, 6]
    assert cut_to_limit(embedder, "one two three") == "one two "


def test_sentence_transformers_that_fail(transformers: Any) -> None:
    error = refusal(TerminalEmbedderError, transformers().embed_documents, ["boom"])
    assert error.message == "The model m raised RuntimeError: out of memory."
    assert refusal(RecipeError, transformers, "missing").message == (
        "The sentence-transformers model missing cannot be loaded: OSError: missing is not a model."
    )


def test_an_unknown_provider() -> None:
    error = refusal(RecipeError, open_embedder, str(TAG), Recipe("acme", "m", 2))
    assert error.message == ("'acme' is not a provider; there are openai, wordllama, sentence-transformers, python.")
