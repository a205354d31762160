"""The embedded server's directory in a folder that everybody may write to: made for its user alone, or refused."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vecmig.errors import ConfigError
from vecmig.postgres import embedded

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="a system without owners of files")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the directory is looked for, in a temporary directory of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"vecmig-{os.getuid()}"


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_it_is_made_for_this_user_alone(place: Path) -> None:
    assert embedded._private_directory() == place
    assert (_mode(place), (place / "python_PostgresServer").is_dir()) == (0o700, True)
    assert embedded._private_directory() == place, "again"


def test_one_that_others_may_enter_is_closed(place: Path) -> None:
    place.mkdir()
    place.chmod(0o755)

    assert embedded._private_directory() == place
    assert _mode(place) == 0o700


@pytest.mark.parametrize("target", ["directory", "file", "nothing"])
def test_a_planted_link_is_refused_and_its_target_left_alone(place: Path, target: str) -> None:
    aim = place.parent / "aim"
    if target == "directory":
        aim.mkdir()
        aim.chmod(0o755)
    elif target == "file":
        aim.write_text("x")
        aim.chmod(0o644)
    before = aim.stat().st_mode if target != "nothing" else None
    place.symlink_to(aim)

    with pytest.raises(ConfigError) as refused:
        embedded._private_directory()

    assert str(place) in refused.value.message
    assert (aim.stat().st_mode if target != "nothing" else None) == before
    assert target != "directory" or not list(aim.iterdir())
    assert target != "nothing" or not aim.exists()


def test_one_that_others_could_write_to_is_refused(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)

    with pytest.raises(ConfigError):
        embedded._private_directory()


def test_a_directory_of_somebody_elses_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() == 0:
        place.mkdir()
        os.chown(place, 65534, 65534)
    else:
        # nobody can give a directory away, but all can ask as somebody else
        mine = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: mine + 1)
        place = place.with_name(f"vecmig-{mine + 1}")
        place.mkdir()

    with pytest.raises(ConfigError):
        embedded._private_directory()


def test_the_command_says_so(place: Path) -> None:
    place.symlink_to(place.parent)
    code = f"""
import sys, tempfile
tempfile.tempdir = {str(place.parent)!r}
from vecmig.cli.app import main
sys.exit(main(["status"]))
"""
    project = place.parent / "project"
    (project / "migrations").mkdir(parents=True)
    (project / "migrations" / "collections.yaml").write_text("collections: {}\ntags: {}\n")
    (project / "vecmig.ini").write_text("[vecmig]\ndatabase_url = embedded:pgdata\n")
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"The embedded PostgreSQL keeps its lock file in {place}, and that is a link")
    assert not (project / "pgdata").exists()
