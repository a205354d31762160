"""The one place that knows Ray: start a cluster or join one, start workers on it, and call them."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from vecmig.backfill.worker import KeyRange, RangeResult, Worker, WorkerReport, WorkerTask
from vecmig.config import without_passwords
from vecmig.errors import UsageError, VecmigError

#: An answer that is on its way.
Ref = Any
#: Calls to one worker at a time: one that embeds, and room for those that ask and stop.
_CALLS: Final = 4
#: Bytes for objects of a cluster of our own, the least that Ray takes: vectors never go through it.
_OBJECT_STORE: Final = 78_643_200
#: The variable by which Ray is told where its cluster is.
_ADDRESS: Final = "RAY_ADDRESS"
_CONNECT_SECONDS: Final = 10
_SAME_EVERYWHERE: Final = "Is the same vecmig installed on every host of the Ray cluster, with what the recipe needs?"
_NAMED_ERROR: Final = re.compile(r"[A-Za-z_.]*(Error|Exception)\b")


class Lost(VecmigError):
    """A worker went away before it answered."""


class Dead(Lost):
    """A worker went away, and Ray does not start it again."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What of the cluster one worker takes."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0

    def __str__(self) -> str:
        return f"num_cpus {self.num_cpus:g} and num_gpus {self.num_gpus:g}"

    def fit_into(self, resources: dict[str, float]) -> int:
        """Return how many workers a cluster has room for."""
        room = [resources.get("CPU", 0.0) / self.num_cpus]
        if self.num_gpus:
            room.append(resources.get("GPU", 0.0) / self.num_gpus)
        return int(min(room))


@dataclass(frozen=True, slots=True)
class RayWorker:
    """A worker on the cluster. Each call returns a reference at once; ``Cluster.answer`` returns what came of it."""

    _actor: Any

    def run(self, task: WorkerTask, key_range: KeyRange, limit: int | None) -> Ref:
        """Complete a range; Ray does so again on a new process as often as one is lost."""
        return self._actor.run.options(max_task_retries=-1).remote(task, key_range, limit)

    def report(self) -> Ref:
        """Ask how it goes."""
        return self._actor.report.remote()

    def stop(self) -> Ref:
        """Let it begin nothing more."""
        return self._actor.stop.remote()

    def close(self) -> Ref:
        """Let it put everything away."""
        return self._actor.close.remote()


class Cluster:
    """A context that is connected to a Ray cluster: to the one at ``address``, else to a new one on this host."""

    def __init__(self, address: str | None, needs: Needs, workers: int | None) -> None:
        """Start nothing yet.

        Args:
            address: where the cluster is, as ``ray.init`` takes it; None for RAY_ADDRESS, or a new cluster.
            needs: what one worker takes of it.
            workers: how many to make room for on a new cluster; None for what this host has.
        """
        self._address = address or os.environ.get(_ADDRESS) or "local"
        self._needs = needs
        self._workers = workers
        self._ray = _imported()
        self._ours = False
        self._actors: list[Any] = []

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            self._ours = True
            options = self._of_our_own() if self._address == "local" else {}
            try:
                _require_listener(self._address)
                with _signals_kept(), _quiet(), _no_usage_report():
                    self._ray.init(address=self._address, log_to_driver=False, configure_logging=False, **options)
                    _let_print(False)
            except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                what = "does not start" if self._address == "local" else f"at {self._address} cannot be reached"
                raise VecmigError(
                    f"The Ray cluster {what}: {_first_line(error)}.",
                    state="Nothing was embedded.",
                    hint="ray_address stands in the recipe; else RAY_ADDRESS says where. Run: ray status",
                ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(self._ray.exceptions.RayError):
            for actor in self._actors:
                self._ray.kill(actor)
        if self._ours:
            with _signals_kept(), _quiet():
                self._ray.shutdown()
                _let_print(True)

    def _of_our_own(self) -> dict[str, Any]:
        """Return the options of a cluster on this host: a small one, with room for the workers asked for."""
        options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE}
        if self._workers is not None:
            cpus = -(-self._workers * self._needs.num_cpus // 1)
            options["num_cpus"] = max(int(cpus), os.cpu_count() or 1)
        return options

    def room(self) -> int:
        """Return how many workers the cluster has room for.

        Raises:
            UsageError: not for one.
        """
        resources = self._ray.cluster_resources()
        room = self._needs.fit_into(resources)
        if room < 1:
            has = ", ".join(f"{name} {resources.get(name, 0):g}" for name in ("CPU", "GPU"))
            raise UsageError(
                f"The Ray cluster has {has}; one worker needs {self._needs}.",
                state="Nothing was embedded.",
                hint="Change num_cpus or num_gpus in the recipe, or name another cluster by ray_address.",
            )
        return room

    def start_worker(self) -> RayWorker:
        """Start a worker; it begins when the cluster has room for it, and again wherever it is lost."""
        actor = (
            self._ray.remote(Worker)
            .options(
                num_cpus=self._needs.num_cpus,
                num_gpus=self._needs.num_gpus,
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=_CALLS,
            )
            .remote()
        )
        self._actors.append(actor)
        return RayWorker(actor)

    def wait(self, refs: Sequence[Ref], seconds: float) -> list[Ref]:
        """Return the references whose answers are there; wait at most ``seconds`` for the first one."""
        done, _ = self._ray.wait(list(refs), num_returns=1, timeout=seconds)
        if not done:
            return []
        done, _ = self._ray.wait(list(refs), num_returns=len(refs), timeout=0)
        return list(done)

    def answer(self, ref: Ref) -> WorkerReport | RangeResult | None:
        """Return what came of a call.

        Raises:
            Lost: the worker went away.
            VecmigError: it failed in a way that is not foreseen.
        """
        errors = self._ray.exceptions
        try:
            answer: WorkerReport | RangeResult | None = self._ray.get(ref)
        except errors.ActorDiedError as error:
            raise Dead(f"A worker ended: {_last_words(error)}.", hint=_SAME_EVERYWHERE) from error
        except errors.RayActorError as error:
            raise Lost(f"A worker was lost: {_first_line(error)}.") from error
        except errors.RayTaskError as error:
            cause = error.cause
            raise VecmigError(
                f"A worker failed unexpectedly: {type(cause).__name__}: {without_passwords(str(cause))}.",
                state="What was written stays.",
                hint=_SAME_EVERYWHERE,
            ) from error
        except errors.RayError as error:
            raise VecmigError(f"Ray failed: {_first_line(error)}.", state="What was written stays.") from error
        return answer


def _require_listener(address: str) -> None:
    """Find out at once that nothing listens there: Ray itself tries for minutes, and writes to stderr about it."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()


def _imported() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UsageError(
            "--engine ray needs Ray, which is not installed.", hint="Run: pip install 'vecmig[ray]'"
        ) from error
    return ray


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".:")


def _last_words(error: BaseException) -> str:
    """Return the line that names the cause; where Ray quotes a traceback, the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines and _NAMED_ERROR.match(lines[-1]) else _first_line(error)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Undo what ``ray.init`` does to SIGTERM: it would end the process in the middle of its work."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's greetings out of vecmig's output; what fails arrives as an error."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _let_print(allowed: bool) -> None:
    """Say whether Ray may print to stdout about workers that end: it does so even where log_to_driver is off.

    It is told in vecmig's own words, as a warning or an error. A Ray without this switch prints it as well.
    """
    import ray._private.worker

    ray._private.worker._worker_logs_enabled = allowed  # noqa: SLF001  # there is no public switch


@contextmanager
def _no_usage_report() -> Iterator[None]:
    """Keep Ray from telling its makers of a cluster of ours, unless its operator said something about that."""
    name = "RAY_USAGE_STATS_ENABLED"
    said = os.environ.get(name)
    os.environ.setdefault(name, "0")
    try:
        yield
    finally:
        if said is None:
            os.environ.pop(name, None)
