"""The benchmarks run: at a tiny size, so that nobody finds out on the day that figures are wanted."""

from __future__ import annotations

import json

import pytest

from support.forking import run_python
from support.project import _environment
from support.source import ROOT

pytestmark = pytest.mark.long

HOME = ROOT / "benchmarks"
#: Each benchmark with options that make it small; whatever it measures then means nothing.
TINY = {
    "adopt": ["--records=200", "--dims=8", "--rounds=1", "--sizes", "200", "400", "--small-dims=8", "--alone=0.2"],
    "backfill": ["--records=200", "--dims", "8", "--rounds=1", "--in-flight=2", "--batch=64", "--latency=0"],
    "beside": ["--records=100", "--dims=8", "--alone=0.2", "--idle=0.1", "--latency=0"],
    "chunking": ["--kb", "4", "8"],
    "fleet": ["--records=600", "--dims=64", "--rounds=1", "--batch=16"],
    "index": ["--records=200", "--dims=8", "--workers", "0", "--latency=0"],
    "index_types": ["--records=200", "--dims=8", "--rerank", "4"],
    "memory": ["--records", "50", "100", "--dims=8", "--latency=0"],
    "move": ["--records", "200", "400"],
    "pay_once": ["--records=200", "--sizes", "200", "400", "--dims", "8", "--rounds=1"],
    "reading": ["--records=100", "--dims", "8", "--searches=5", "--switches=2"],
    "scale": ["--records", "100", "200", "--rounds=1"],
    "startup": ["--rounds=1", "--revisions=2"],
    "tracking": ["--rows=200", "--dims=8", "--rounds=1"],
    "peers": ["--records=100", "--slow=50", "--dims=8", "--rounds=1", "--latency=0", "--peers=naive"],
}


def test_every_benchmark_is_tried_here_and_described() -> None:
    found = {path.stem for path in HOME.glob("*.py") if "Report(" in path.read_text() and path.stem != "common"}

    assert found == set(TINY)
    described = (HOME / "README.md").read_text()
    assert [name for name in found if f"`{name}.py`" not in described] == []


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_runs(name: str, database_url: str) -> None:
    command = [str(HOME / f"{name}.py"), "--json", f"--database-url={database_url}", *TINY[name]]
    result = run_python(command, env=_environment())

    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["benchmark"] == name
    assert report["machine"]["postgresql"]
    assert all(figure["median"] >= 0 for figure in report["figures"])
    assert report["ratios"]
