"""How many times as fast vecmig is as what else fills pgvector, in one run on one machine.

    python benchmarks/peers.py [--records 20000] [--slow 2000] [--dims 1536] [--peers vecshift,naive,…] [--json]

One table: public.documents with its text, its old vectors, and a live HNSW index on them, as in production.

vecmig      a whole backfill of a new tag of all records, from a local OpenAI-compatible server with 50 ms latency
vecshift    0.4.0 with its defaults: ``apply --no-index`` into a new column of that table, from the same server, timed
            from its first event to its last batch, so without its start and its plan
naive       a script: SELECT, embed a batch by the openai client, UPDATE row by row; the same table and server
langchain-postgres    PGVector and PGVectorStore: ``add_embeddings`` into tables of their own without a vector index,
            with ready vectors: no provider at all
llama-index           PGVectorStore: ``add``, likewise

Peers are slow, so they get the first --slow records; a rate is compared with a rate. Each is installed into a virtual
environment of its own below --cache, once; one that cannot be installed is reported as such. pgai is not run: its
worker takes 6.8 GB to install.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import openai
import psycopg
import yaml
from pgvector.psycopg import register_vector

from common import (
    Report,
    directory,
    load_source,
    measure_backfill,
    openai_recipe,
    opened,
    parser,
    tag_of,
    unit_vectors,
)
from pipeline import copy_old
from provider import Provider

_HERE: Final = Path(__file__).parent
_VECSHIFT: Final = "vecshift==0.4.0"
_LANGCHAIN: Final = "langchain-postgres==0.0.19"
_LLAMA_INDEX: Final = "llama-index-vector-stores-postgres==0.9.0"
#: How many times as fast as vecshift, on a table with a live index.
_OF_VECSHIFT: Final = 30.0
_PROGRAMS: Final = {
    "langchain-postgres": (_LANGCHAIN, "peer_langchain.py", ("PGVector", "PGVectorStore")),
    "llama-index": (_LLAMA_INDEX, "peer_llama_index.py", ("add",)),
}
PEERS: Final = ("vecshift", "naive", *_PROGRAMS)


class NotInstalled(Exception):
    """A peer could not be installed; the text says why."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every peer works on."""

    report: Report
    provider_url: str
    path: Path

    @property
    def options(self) -> argparse.Namespace:
        """The command line."""
        return self.report.options

    @property
    def url(self) -> str:
        """The database's."""
        return self.report.database.url


def installed(cache: Path, requirement: str) -> Path:
    """Give the directory of a virtual environment that has a package, made when it is not there.

    Raises:
        NotInstalled: pip could not.
    """
    home = cache / requirement.replace("==", "-")
    done = home / "installed"
    if not done.exists():
        print(f"installing {requirement} into {home}", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        command = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", requirement]
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
        if result.returncode:
            lines = result.stderr.strip().splitlines()
            raise NotInstalled(lines[-1] if lines else f"pip ended with {result.returncode}")
        done.touch()
    return home / "bin"


def _environment() -> dict[str, str]:
    """Give an environment in which a peer sees its own packages only."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def make_table(connection: psycopg.Connection[Any], records: int, dims: int) -> None:
    """Make public.documents with old vectors and a live HNSW index on them."""
    load_source(connection, records)
    connection.execute(f"ALTER TABLE public.documents ADD COLUMN embedding vector({dims})")
    copy_old(connection, unit_vectors(records, dims, seed=3))
    connection.execute("SET maintenance_work_mem = '1GB'; SET max_parallel_maintenance_workers = 2")
    connection.execute("SET min_parallel_table_scan_size = 0")
    connection.execute("CREATE INDEX documents_embedding ON public.documents USING hnsw (embedding vector_cosine_ops)")
    connection.execute("VACUUM ANALYZE public.documents")


# The peers -----------------------------------------------------------------------------------------------------------


def run_vecshift(bench: Bench) -> dict[str, float]:
    """Let vecshift fill a new column of the table."""
    options = bench.options
    program = installed(options.cache, _VECSHIFT) / "vecshift"
    job = {
        "version": 1,
        "name": "benchmark",
        "source": {"type": "pgvector", "table": "documents", "vector_column": "embedding", "text_column": "body"},
        "target": {"type": "pgvector", "column": "embedding_vecshift"},
        "model": f"compat/benchmark,url={bench.provider_url},dims={options.dims},price=0",
    }
    file = bench.path / "vecshift.yaml"
    file.write_text(yaml.safe_dump(job))
    command = [str(program), "--no-env-file", "apply", str(file), "--yes", "--no-index", "--json"]
    if options.slow < options.records:
        command += ["--until", str(max(1, min(99, round(100 * options.slow / options.records))))]
    environment = _environment() | {"VECSHIFT_DSN": bench.url}
    return {"vecshift 0.4.0, indexed": _rate_of_events(command, environment, bench.path)}


def _rate_of_events(command: list[str], environment: dict[str, str], path: Path) -> float:
    """Give the rows a second between vecshift's first event and its last batch."""
    began = ended = 0.0
    rows, lines = 0, []
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=path, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "start":
                began = time.perf_counter()
            elif event.get("event") == "batch":
                ended, rows = time.perf_counter(), event["rows_written"]
    if not rows:
        sys.exit(f"vecshift ended with {process.returncode} and has written nothing:\n{''.join(lines)}")
    return rows / (ended - began)


def run_naive(bench: Bench) -> dict[str, float]:
    """Do it as a script does: one batch after the other, one UPDATE a row, one transaction a batch."""
    options = bench.options
    client = openai.OpenAI(base_url=bench.provider_url, api_key="none")
    with psycopg.connect(bench.url) as connection:
        register_vector(connection)
        connection.execute(f"ALTER TABLE public.documents ADD COLUMN embedding_naive vector({options.dims})")
        connection.commit()
        began = time.perf_counter()
        rows = connection.execute(
            "SELECT id, body FROM public.documents ORDER BY id LIMIT %s", [options.slow]
        ).fetchall()
        for first in range(0, len(rows), options.batch):
            page = rows[first : first + options.batch]
            answer = client.embeddings.create(model="benchmark", input=[text for _, text in page])
            for (key, _), item in zip(page, answer.data, strict=True):
                vector = "[" + ",".join(map(str, item.embedding)) + "]"
                connection.execute("UPDATE public.documents SET embedding_naive = %s WHERE id = %s", [vector, key])
            connection.commit()
        seconds = time.perf_counter() - began
    return {"naive script, indexed": len(rows) / seconds}


def run_program(bench: Bench, peer: str) -> dict[str, float]:
    """Run the program of a peer that has only a library, by the peer's own Python."""
    options = bench.options
    requirement, file, ways = _PROGRAMS[peer]
    python = installed(options.cache, requirement) / "python"
    found = {}
    for way in ways:
        command = [str(python), str(_HERE / file), way, bench.url, str(options.slow), str(options.dims)]
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, env=_environment(), cwd=bench.path
        )
        if result.returncode:
            sys.exit(f"{file} {way} ended with {result.returncode}:\n{result.stderr}")
        found[f"{requirement.replace('==', ' ')} {way}, no provider"] = float(result.stdout)
    return found


def measure(report: Report, path: Path) -> None:
    """Measure vecmig, then the peers."""
    options, database = report.options, report.database
    tag = tag_of("benchmark", options.dims)
    with Provider(dims=options.dims, latency=options.latency) as provider:
        recipe = openai_recipe(provider.url, options.dims, in_flight=options.in_flight, batch=options.batch)
        rates = [measure_backfill(database, options.records, tag, recipe) for _ in range(options.rounds)]
        vecmig = report.figure("vecmig, indexed", rates, "rows/s", f"{options.records:,} records")
        bench = Bench(report, provider.url, path)
        for peer in options.peers:
            run: Callable[[Bench], dict[str, float]] = {"vecshift": run_vecshift, "naive": run_naive}.get(
                peer,
                lambda bench, peer=peer: run_program(bench, peer),  # type: ignore[misc]  # binds the loop's name
            )
            try:
                found = run(bench)
            except NotInstalled as error:
                report.note(f"{peer} was not measured, because it could not be installed: {error}")
                continue
            for what, rate in found.items():
                report.figure(what, rate, "rows/s", f"{options.slow:,} records")
                report.ratio(f"vecmig / {what}", vecmig / rate, at_least=_OF_VECSHIFT if peer == "vecshift" else None)
    report.note("pgai is not run: its worker takes 6.8 GB to install.")


def _peers(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: known are {', '.join(PEERS)}")
    return names


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--records", type=int, default=20_000)
    made.add_argument("--slow", type=int, default=2_000, help="records for a peer")
    made.add_argument("--dims", type=int, default=1_536)
    made.add_argument("--rounds", type=int, default=3, help="rounds of vecmig; a peer has one")
    made.add_argument("--peers", type=_peers, default=list(PEERS), help=f"of {','.join(PEERS)}")
    made.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "vecmig-benchmarks")
    made.add_argument("--latency", type=float, default=0.05, help="seconds that the server takes for an answer")
    made.add_argument("--in-flight", type=int, default=16, help="vecmig's requests at once")
    made.add_argument("--batch", type=int, default=128, help="texts in a request of vecmig and of the script")
    options = made.parse_args(argv)
    options.slow = min(options.slow, options.records)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    with opened(options.database_url) as database, directory() as path:
        report = Report("peers", options, database)
        with psycopg.connect(database.url, autocommit=True) as connection:
            make_table(connection, options.records, options.dims)
        measure(report, path)
        report.end()


if __name__ == "__main__":
    main()
