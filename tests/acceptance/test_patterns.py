"""Tables that are alike, a collection each, and one script for all of them: as with Dify, a table for each dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from support import layouts
from support.cli import Vecmig, describe, tag
from support.cluster import dump
from support.layouts import make
from support.postgres import Postgres
from support.project import Project
from support.provider import Provider, vector

SMALL, LARGE = tag("fake", 8), tag("fake", 16)
NAMES = ("dify_1", "dify_2", "dify_3")
COUNT = 12


def table(name: str) -> str:
    """Name the table of a dataset, as Dify does."""
    return f"embedding_vector_index_{name.removeprefix('dify_')}_node"


def fill(project: Project, name: str, *texts: str) -> None:
    """Make a dataset's table as Dify does, and put texts into it with their vectors."""
    with psycopg.connect(project.database_url) as connection:
        make(connection, layouts.DIFY, name=table(name), n=8)
        rows = [(uuid4(), text, str([float(x) for x in vector(text, 8)])) for text in texts]
        with connection.cursor() as cursor:
            query = f"INSERT INTO {table(name)} (id, text, meta, embedding) VALUES (%s, %s, '{{}}', %s::text::vector)"
            cursor.executemany(query.encode(), rows)


def texts(name: str) -> list[str]:
    """Write what is in a dataset."""
    return [f"record {n} of {name}" for n in range(COUNT)]


def collection(name: str, wanted: str) -> dict[str, object]:
    """Describe a dataset's collection."""
    return {"source": f"public.{table(name)}", "key": ["id"], "text": "text", "tag": wanted}


@pytest.fixture
def large() -> Iterator[Provider]:
    """A provider of 16 dimensions."""
    with Provider(dims=16) as server:
        yield server


@dataclass(frozen=True)
class Datasets:
    """A project over the tables of datasets, with a provider for each of two sizes."""

    project: Project
    small: Provider
    large: Provider
    postgres: Postgres
    folder: Path

    def make(self, *names: str) -> None:
        """Make tables with records and their vectors, as Dify does."""
        for name in names:
            fill(self.project, name, *texts(name))

    def reach_small(self) -> None:
        """Say in collections.yaml where the first provider is, which no table tells."""
        text, file = "{ provider: openai, dims: 8 }", self.project.collections
        assert text in file.read_text()
        file.write_text(file.read_text().replace(text, f"{text[:-1]}, base_url: '{self.small.url}' }}"))

    def ask(self, wanted: str, *names: str) -> None:
        """Let collections.yaml have these datasets, which ask for a tag."""
        recipes = {
            SMALL: {"provider": "openai", "dims": 8, "base_url": self.small.url},
            LARGE: {"provider": "openai", "dims": 16, "base_url": self.large.url},
        }
        describe(self.project, {name: collection(name, wanted) for name in names}, recipes)

    def as_found(self) -> list[str]:
        """Dump the tables of the datasets, schema and data."""
        file = self.folder / "dump.sql"
        tables = [f"--table={table(name)}" for name in NAMES]
        dump(self.postgres, self.project.database_url.partition("@/")[2].partition("?")[0], file, *tables)
        lines = file.read_text().splitlines()
        return sorted(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))


@pytest.fixture
def datasets(project: Project, provider: Provider, large: Provider, postgres: Postgres, tmp_path: Path) -> Datasets:
    """Three datasets, and a project that has no collection yet."""
    made = Datasets(project, provider, large, postgres, tmp_path)
    made.make(*NAMES)
    project.collections.write_text("")
    return made


def live(project: Project) -> dict[str, str | None]:
    """Return which tag each collection reads."""
    return dict(project.sql("SELECT collection, live FROM vecmig.route"))


def phases(project: Project) -> dict[str, str]:
    """Return how far each revision is that is applied, or in progress."""
    return dict(project.sql("SELECT id, phase FROM vecmig.revision WHERE withdrawn_at IS NULL"))


def test_a_story_of_tables_that_are_alike(datasets: Datasets, vecmig: Vecmig) -> None:
    project = datasets.project
    before = datasets.as_found()

    # one script takes over the vectors of all
    vecmig("discover", "--write", "--model", "fake", "--provider", "openai")
    datasets.reach_small()
    (script,) = project.versions
    adopt = script.name.partition("_")[0]
    listed = "dify_*: dify_1, dify_2, dify_3"
    assert vecmig("heads").stdout == f"{adopt} ({listed}) (head)\n"
    assert vecmig("upgrade", "head").stdout.count("  live  dify_*: adopted vectors, 8 dimensions\n") == 3
    assert live(project) == dict.fromkeys(NAMES, SMALL)
    assert {text for request in datasets.small.requests() for text in request["inputs"]} <= {
        text for name in NAMES for text in texts(name)
    }, "only spot checks ask for records"
    status = vecmig("status").stdout
    for name in NAMES:
        assert f"\n{name}  OK  live fake/dim-8, 0 behind\n" in status

    # another table appears, and is taken in
    datasets.make("dify_4")
    written = vecmig("discover", "--write")
    assert written.stdout == "Wrote migrations/collections.yaml\n"
    assert f"dify_4: taken in by revision {adopt}, which is there already" in written.stderr
    assert f"{adopt}_dify_4" in vecmig("check", code=4).stderr
    assert vecmig("upgrade", "head").stdout.startswith(f"{adopt}_dify_4  live  ")

    # all move on but one, whose gate refuses
    everybody = (*NAMES, "dify_4")
    datasets.ask(LARGE, *everybody)
    vecmig("revision", "--rev-id", "bebe", "-m", "wider")
    assert vecmig("history").stdout.splitlines() == [
        f"{adopt} -> bebe ({listed}, dify_4) (head), wider",
        f"<base> -> {adopt} ({listed}, dify_4), dify_*: adopted vectors, 8 dimensions",
    ]
    poisoned = f"INSERT INTO {table('dify_2')} SELECT gen_random_uuid(), 'POISON', '{{}}', embedding "
    project.sql(f"{poisoned} FROM {table('dify_2')} LIMIT 1")
    with datasets.large.failing("poison"):
        refused = vecmig("upgrade", "head", code=3).stderr
    assert "The gate of dify_2 refuses the cutover" in refused
    assert live(project) == {name: SMALL if name == "dify_2" else LARGE for name in everybody}

    # one is rolled back alone, and held; the others stay
    vecmig("downgrade", "dify_3@-1")
    assert phases(project) == {
        **{f"{adopt}_{name}": "live" for name in everybody},
        "bebe_dify_1": "live",
        "bebe_dify_2": "indexed",
        "bebe_dify_4": "live",
    }
    project.sql(f"DELETE FROM {table('dify_2')} WHERE text = 'POISON'")
    done = vecmig("upgrade", "head")
    assert done.stdout.startswith("bebe_dify_2  live  wider\n")
    assert live(project) == {name: SMALL if name == "dify_3" else LARGE for name in everybody}
    vecmig("release", "bebe_dify_3")
    vecmig("upgrade", "bebe")
    assert live(project) == dict.fromkeys(everybody, LARGE)

    # one that appears now goes on to where the others are
    datasets.make("dify_5")
    vecmig("discover", "--write")
    joined = vecmig("upgrade", "head").stdout
    assert joined.startswith(f"{adopt}_dify_5  live  ")
    assert joined.endswith("bebe_dify_5  live  wider\n")
    assert vecmig("check").stdout == "Nothing is pending.\n"

    # back for all of them, step by step: the tables are as they were found
    assert vecmig("downgrade", adopt).stdout.count("rolled back") == 5
    assert live(project) == dict.fromkeys((*everybody, "dify_5"), SMALL)
    vecmig("downgrade", "base")
    assert datasets.as_found() == before


def adopted(datasets: Datasets, vecmig: Vecmig, *names: str) -> Path:
    """Let one script adopt the vectors of datasets; return it."""
    datasets.ask(SMALL, *names)
    vecmig("revision", "--collection", "dify_*", "--adopt", "embedding", "--rev-id", "adad", "-m", "adopt")
    (script,) = datasets.project.versions
    return script


def test_many_revisions_of_one_script_are_counted(datasets: Datasets, vecmig: Vecmig) -> None:
    more = tuple(f"dify_{number}" for number in range(4, 7))
    datasets.make(*more)
    adopted(datasets, vecmig, *NAMES, *more)
    assert vecmig("status").stdout.splitlines()[1:4] == [
        "current   nothing applied",
        "heads     adad (6 of 6 collections)",
        "pending   adad (6 of 6 collections, not started)",
    ]
    vecmig("upgrade", "dify_1@head")
    assert vecmig("status").stdout.splitlines()[1:4] == [
        "current   adad_dify_1",
        "heads     adad (6 of 6 collections)",
        "pending   adad (5 of 6 collections, not started)",
    ]
    assert set(vecmig("history", "-i").stdout.splitlines()) == {
        "<base> -> adad (dify_*: dify_2, dify_3, dify_4, dify_5 and 1 more) (head), adopt",
        "<base> -> adad_dify_1 (dify_1) (head) (current), adopt",
    }


def test_a_dataset_that_is_given_up_is_named_until_it_is_gone(datasets: Datasets, vecmig: Vecmig) -> None:
    script = adopted(datasets, vecmig, *NAMES)
    vecmig("upgrade", "head")
    datasets.ask(SMALL, "dify_2", "dify_3")
    gone = "The database has revision adad_dify_1 of the collection dify_1, and collections.yaml has it no more."
    for command in (("status",), ("upgrade", "head"), ("downgrade", "base"), ("check",)):
        assert vecmig(*command, code=2).stderr.splitlines()[0] == gone
    (found,) = (one for one in vecmig("audit", "--json", code=4).json["findings"] if one["kind"] == "no script")
    assert (found["detail"], found["object"]) == (gone, "adad_dify_1")
    vecmig("uninstall", "--collection", "dify_1", "--yes")
    assert "adad_dify_1" not in vecmig("status").stdout

    # nor does a pattern that is for no collection any more pass in silence
    script.write_text(script.read_text().replace("dify_*", "difi_*"))
    refused = vecmig("upgrade", "head", code=2).stderr
    assert "warning: Revision adad is for difi_*, and collections.yaml has no such collection." in refused
    assert "and script adad is for difi_* now." in refused
    assert "Revision adad is for difi_*" in vecmig("heads").stderr


def test_what_is_said_of_the_file_is_said_once(
    datasets: Datasets, vecmig: Vecmig, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = adopted(datasets, vecmig, *NAMES)
    vecmig("upgrade", "head")
    script = script.rename(script.with_name("renamed.py"))
    assert vecmig("upgrade", "head").stdout == "Nothing to do: the database is there already.\n"
    script.write_text(script.read_text().replace("0.995", "0.99"))
    assert vecmig("upgrade", "head", code=2).stderr.splitlines() == [
        "Revision adad (renamed.py) was changed after it was applied.",
        "Nothing was changed.",
        "Take the change back (git checkout), or if it is meant, record it: vecmig stamp adad",
    ]
    recorded = vecmig("stamp", "adad").stdout
    assert all(f"adad_{name}" in recorded for name in NAMES)
    vecmig("upgrade", "head")
    monkeypatch.setenv("EDITOR", "ls")
    assert datasets.project.vecmig("edit", "adad").expect().stdout.split() == [str(script)]
    assert vecmig("show", "adad").stdout.count("Path: ") == 1


def test_scripts_of_their_own_give_way_to_one_over_a_pattern(datasets: Datasets, vecmig: Vecmig) -> None:
    """What is applied stays as it is: the ledger is told that the scripts have been put together."""
    datasets.ask(SMALL, *NAMES)
    for name in NAMES:
        vecmig("revision", "--collection", name, "--adopt", "embedding")
    vecmig("upgrade", "head")
    before = datasets.project.sql("SELECT collection, live, version FROM vecmig.route ORDER BY 1")
    for script in datasets.project.versions:
        script.unlink()
    adopted(datasets, vecmig, *NAMES)
    recorded = vecmig("stamp", "head").stdout
    assert all(f"adad_{name}" in recorded for name in NAMES)
    assert vecmig("upgrade", "head").stdout == "Nothing to do: the database is there already.\n"
    assert datasets.project.sql("SELECT collection, live, version FROM vecmig.route ORDER BY 1") == before
    assert set(phases(datasets.project)) == {f"adad_{name}" for name in NAMES}
    vecmig("downgrade", "dify_2@base")
    assert live(datasets.project) == {"dify_1": SMALL, "dify_2": None, "dify_3": SMALL}
