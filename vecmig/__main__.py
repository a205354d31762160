"""``python -m vecmig``."""

from __future__ import annotations

from vecmig.cli.app import run

if __name__ == "__main__":
    run()
