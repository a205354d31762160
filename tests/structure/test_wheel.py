"""What a user installs is complete: the wheel is built from the source distribution, unpacked, and run."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.source import PACKAGE, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel by way of the source distribution, so that it shows what either of them lacks."""
    folder = tmp_path_factory.mktemp("dist")
    _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)], cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the wheel where nothing of the checkout is near."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def _run(command: list[str], *, cwd: Path, path: Path | None = None) -> str:
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _files(folder: Path) -> set[Path]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder) for path in found}


def test_every_template_is_in_the_wheel(unpacked: Path) -> None:
    templates = _files(ROOT / "templates")
    assert templates
    installed = unpacked / "vecmig" / "templates"
    assert _files(installed) == templates
    assert all((installed / name).read_bytes() == (ROOT / "templates" / name).read_bytes() for name in templates)


def test_every_file_of_the_package_is_in_the_wheel(unpacked: Path) -> None:
    own = _files(PACKAGE)
    assert own <= _files(unpacked / "vecmig")
    assert Path("py.typed") in own
    assert any(path.suffix == ".sql" for path in own)


def test_the_wheel_holds_nothing_else(unpacked: Path) -> None:
    top = {path.parts[0] for path in _files(unpacked)}
    assert {name for name in top if not name.endswith(".dist-info")} == {"vecmig"}


def test_the_wheel_names_its_licence_and_command(unpacked: Path) -> None:
    (info,) = unpacked.glob("*.dist-info")
    assert "Apache License" in (info / "licenses" / "LICENSE").read_text(encoding="utf-8")
    assert "vecmig = vecmig.cli.app:run" in (info / "entry_points.txt").read_text(encoding="utf-8")


def test_the_unpacked_wheel_runs(unpacked: Path, tmp_path: Path) -> None:
    where = _run([sys.executable, "-c", "import vecmig; print(vecmig.__file__)"], cwd=tmp_path, path=unpacked)
    assert Path(where.strip()).is_relative_to(unpacked)
    templates = _run([sys.executable, "-m", "vecmig", "list_templates"], cwd=tmp_path, path=unpacked)
    assert "generic" in templates
