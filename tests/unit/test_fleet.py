"""What goes to the workers of a fleet and comes back: shares, errors, and no secret where it can be read."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from vecmig.backfill import Needs
from vecmig.backfill.budget import CostAccount
from vecmig.backfill.cluster import Cluster
from vecmig.backfill.counters import Figures
from vecmig.backfill.run_options import RunOptions, shared_recipe
from vecmig.backfill.worker import WorkerTask
from vecmig.errors import (
    BudgetSpent,
    DatabaseError,
    DatabaseUnreachable,
    Interrupted,
    LockHeld,
    PoisonInputError,
    RecipeError,
    TerminalEmbedderError,
    TransientEmbedderError,
    VecmigError,
)
from vecmig.freshness.stamps import Stamps
from vecmig.model.collection import Collection
from vecmig.model.recipe import Recipe, Service
from vecmig.postgres.pgvector import Pgvector
from vecmig.postgres.sessions import Database
from vecmig.postgres.throttle import Throttle
from vecmig.source.keys import KeyColumn
from vecmig.source.source import Source

TAG = "toy@1/dim-4/chunk-none/norm-l2"


def check(embedder: object) -> None:
    """Stand in for the comparison with the canary."""


def order(*, url: str = "postgresql://app@db/shop", key: str = "sk") -> WorkerTask:
    """Make an order as a driver does."""
    collection = Collection("documents", ("public", "documents"), ("id",), "body")
    source = Source(
        collection=collection,
        oid=0,
        schema="public",
        table="documents",
        kind="r",
        key=(KeyColumn("id", "bigint", "pg_catalog"),),
        columns=("id", "body"),
        unique=True,
        row_security=False,
        pgvector=Pgvector("public", (0, 8, 0)),
        home="public",
        vectors_schema="vecmig",
    )
    return WorkerTask(
        version="1",
        database=Database(url, "vecmig", lock_wait=2.5),
        stamps=Stamps(source, "vecmig", TAG),
        recipe=Recipe("python", "toy", 4),
        account=CostAccount("r1", "backfill", 1.5),
        options=RunOptions(supervised=True, throttle=Throttle(query="SELECT 0", max_replica_lag=3), workers=2),
        check=check,
        total=7,
        environ={"KEY": key},
        path=("/srv/shop",),
    )


@pytest.mark.parametrize(
    "kind",
    [
        VecmigError,
        BudgetSpent,
        DatabaseError,
        DatabaseUnreachable,
        Interrupted,
        LockHeld,
        PoisonInputError,
        RecipeError,
        TerminalEmbedderError,
        TransientEmbedderError,
    ],
)
def test_an_error_arrives_as_what_it_was(kind: type[VecmigError]) -> None:
    error = pickle.loads(pickle.dumps(kind("It failed.", state="As it was.", hint="Try this")))
    assert type(error) is kind
    assert (error.message, error.state, error.hint, str(error)) == (
        "It failed.",
        "As it was.",
        "Try this",
        "It failed.",
    )
    assert error.exit_code == kind.exit_code


def test_an_order_travels_whole_and_shows_no_secret() -> None:
    sent = order(url="postgresql://app:sesame@db/shop", key="sk-sesame")
    arrived = pickle.loads(pickle.dumps(sent))
    assert (arrived.database, arrived.environ, arrived.stamps, arrived.account) == (
        sent.database,
        sent.environ,
        sent.stamps,
        sent.account,
    )
    assert arrived.options.throttle is not None
    assert "sesame" not in repr(sent)


@pytest.mark.parametrize(
    ("workers", "expected"), [(1, (8, 100, 9_000)), (3, (2, 33, 3_000)), (16, (1, 6, 562)), (200, (1, 1, 45))]
)
def test_each_worker_takes_its_share_of_what_the_service_bears(workers: int, expected: tuple[int, int, int]) -> None:
    recipe = Recipe("openai", "toy", 4, service=Service(requests_per_minute=100, tokens_per_minute=9_000, timeout=5))
    mine = shared_recipe(recipe, workers)
    assert (mine.service.concurrency, mine.service.requests_per_minute, mine.service.tokens_per_minute) == expected
    assert mine.service.timeout == 5
    assert mine.fingerprint == recipe.fingerprint, "it makes the same vectors"
    unlimited = shared_recipe(Recipe("openai", "toy", 4), workers).service
    assert (unlimited.requests_per_minute, unlimited.tokens_per_minute) == (None, None)


@pytest.mark.parametrize(
    ("needs", "resources", "room"),
    [
        (Needs(), {"CPU": 2.0}, 2),
        (Needs(num_cpus=2), {"CPU": 5.0}, 2),
        (Needs(num_cpus=1, num_gpus=0.5), {"CPU": 16.0, "GPU": 2.0}, 4),
        (Needs(num_cpus=4, num_gpus=1), {"CPU": 8.0, "GPU": 8.0}, 2),
        (Needs(num_gpus=1), {"CPU": 8.0}, 0),
        (Needs(), {}, 0),
    ],
)
def test_as_many_workers_as_there_is_room_for(needs: Needs, resources: dict[str, float], room: int) -> None:
    assert needs.fit_into(resources) == room


def test_figures_are_counted_once() -> None:
    before, now = Figures(10, 1, 0, 400), Figures(25, 1, 2, 900)
    assert now.since(before) == Figures(15, 0, 2, 500)
    assert now.since(before).is_progress
    assert not before.since(now).is_progress, "news that were overtaken count for nothing"
    assert not now.since(now).is_progress


def test_a_cluster_where_nobody_listens_is_told_of_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed: pip install -e '.[dev]'")
    with pytest.raises(VecmigError, match=r"^The Ray cluster at 127\.0\.0\.1:1 cannot be reached: ") as refused:
        Cluster("127.0.0.1:1", Needs(), None).__enter__()
    assert refused.value.exit_code == 1
