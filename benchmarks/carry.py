"""How fast ``vecmig vectors export`` and ``import`` carry vectors, and their memory; pay_once.py runs it."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
from memory import peak_mb

from common import (
    Project,
    Report,
    directory,
    finish,
    forget,
    free_recipe,
    load_source,
    rounds,
    tag_of,
    unit_vectors,
    write_project,
)
from pipeline import measure_copy
from vecmig import runner
from vecmig.config import load_config

#: The targets: the share of COPY, and how many times the memory at the smaller size.
_OF_COPY: Final = 0.4
_GROWTH: Final = 1.15
_RAW: Final = "COPY (SELECT embedding FROM copied) TO STDOUT (FORMAT binary)"


def measure_raw_export(connection: psycopg.Connection[Any], records: int, path: Path) -> float:
    """Give the rows a second of one COPY BINARY of the table ``copied`` into a file."""
    began = time.perf_counter()
    with (path / "raw").open("wb") as file, connection.cursor().copy(_RAW) as copy:
        for piece in copy:
            file.write(piece)
    seconds = time.perf_counter() - began
    (path / "raw").unlink()
    return records / seconds


def measure_export(project: Project, tag: str, path: Path) -> float:
    """Export all vectors; give the rows a second."""
    path.unlink(missing_ok=True)
    began = time.perf_counter()
    made = runner.export_vectors(load_config(project.path / "vecmig.ini"), "documents", tag, path)
    return made.vectors / (time.perf_counter() - began)


def measure_import(report: Report, project: Project, path: Path) -> float:
    """Import a file into a tag that has no vector; give the rows a second."""
    forget(report.database)
    project.upgrade(until="expand")
    began = time.perf_counter()
    done = runner.import_vectors(load_config(project.path / "vecmig.ini"), path)
    seconds = time.perf_counter() - began
    if done.coverage.share != 1:
        raise SystemExit(f"the import is not complete: {done}")
    return done.taken.records / seconds


def compare_copy(report: Report, connection: psycopg.Connection[Any], dims: int) -> None:
    """Compare both ways with COPY."""
    options, tag = report.options, tag_of("free", dims)
    forget(report.database)
    load_source(connection, options.records)
    with directory() as path:
        project = write_project(path, report.database.url, {tag: free_recipe(dims)})
        project.upgrade(until="backfill")
        raw_in = partial(measure_copy, connection, options.records, unit_vectors(1_000, dims), ready=False)
        raw_in()
        raw, exported = rounds(
            options.rounds,
            partial(measure_raw_export, connection, options.records, path),
            partial(measure_export, project, tag, path / "vectors"),
        )
        written, imported = rounds(options.rounds, raw_in, partial(measure_import, report, project, path / "vectors"))
    for what, limit, reached in (("export", raw, exported), ("import", written, imported)):
        copy = report.figure(f"COPY BINARY, as the {what} goes, {dims} dims", limit, "rows/s")
        vecmig = report.figure(f"vecmig vectors {what}, {dims} dims", reached, "rows/s")
        report.ratio(f"{what} / COPY BINARY, {dims} dims", vecmig / copy, at_least=_OF_COPY)


def measure_memory(report: Report, connection: psycopg.Connection[Any], records: int, dims: int) -> tuple[float, float]:
    """Export and import so many vectors by processes of their own; give the peak of each in MB."""
    tag = tag_of("free", dims)
    forget(report.database)
    load_source(connection, records)
    with directory() as path:
        recipe = free_recipe(dims)
        project = write_project(path, report.database.url, {tag: recipe})
        project.upgrade(until="backfill")
        peaks = []
        for command in (("export", "documents", tag, "vectors"), ("import", "vectors")):
            process = project.start("vectors", *command)
            peaks.append(peak_mb(process))
            finish(process)
            forget(report.database)
            project.upgrade(until="expand")
    for what, peak in zip(("export", "import"), peaks, strict=True):
        report.figure(f"peak memory of the {what}, {records:,} records, {dims} dims", peak, "MB")
    return peaks[0], peaks[1]


def compare_memory(report: Report, connection: psycopg.Connection[Any], dims: int) -> None:
    """Compare the peaks at two sizes."""
    sizes = report.options.sizes
    connection.execute("DROP TABLE IF EXISTS copied")
    small, large = (measure_memory(report, connection, records, dims) for records in sizes)
    for what, before, after in zip(("export", "import"), small, large, strict=True):
        report.ratio(f"peak of the {what}, {sizes[1]:,} / {sizes[0]:,} records", after / before, at_most=_GROWTH)
