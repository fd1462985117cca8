"""Where a test run keeps the data and the logs of its parts.

One folder per process, below /tmp because PostgreSQL's own user must be able to enter it. Data is
removed when a part stops, logs stay until the folder's process is gone and a later run clears up.
"""

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

_KEEP_RUNS = 5


def _base() -> Path:
    return Path(os.environ.get("LAKEBED_RUNS") or Path(tempfile.gettempdir()) / "lakebed-runs")


@cache
def run_dir() -> Path:
    base = _base()
    base.mkdir(parents=True, exist_ok=True)
    _clear_up(base)
    path = base / f"{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    path.chmod(0o755)
    return path


def part_dir(name: str) -> Path:
    """A new folder for one part of this run; for whichever thread asks."""
    for number in range(1, 1000):
        path = run_dir() / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise RuntimeError(f"more than 999 parts called {name} in {run_dir()}")


def _clear_up(base: Path) -> None:
    """Drops the folders of dead processes, but for the newest few, whose logs may be wanted."""
    dead = [
        path
        for path in base.iterdir()
        if path.name.isdigit() and not Path(f"/proc/{path.name}").exists()
    ]
    dead.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in dead:
        # A run that was killed could not remove its own data.
        for data in path.glob("*/data"):
            shutil.rmtree(data, ignore_errors=True)
    for path in dead[_KEEP_RUNS:]:
        shutil.rmtree(path, ignore_errors=True)
