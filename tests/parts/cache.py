"""What is downloaded once and kept outside the clone.

Each folder is named after the hash of the file that describes it, so an edited pom or
requirements file makes a new folder and clones of different age share one cache. A folder appears
under its final name only when it is complete: an interrupted download leaves a temporary folder
behind that nobody looks at.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from parts import java

POMS = Path(__file__).parent / "poms"
ARCHIVES = POMS / "archives"


def root() -> Path:
    path = os.environ.get("LAKEBED_PARTS") or Path.home() / ".cache" / "lakebed" / "parts"
    path = Path(path).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


def jars(name: str) -> Path:
    """The folder with the jars that ``poms/<name>.pom.xml`` lists, downloaded if need be."""
    return _folder(POMS / f"{name}.pom.xml", _copy_dependencies)


def archive(name: str) -> Path:
    """The folder with what is in the archive that ``poms/archives/<name>.pom.xml`` names."""
    return _folder(ARCHIVES / f"{name}.pom.xml", _unpack)


def _folder(pom: Path, fill: Callable[[Path, Path], None]) -> Path:
    name = pom.name.removesuffix(".pom.xml")
    final = root() / f"{name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if final.is_dir():
        return final
    # Two test runs may want the same jars at once: one downloads, the other finds them.
    with open(root() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.is_dir():
            partial = final.with_name(f"{final.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            fill(pom, partial)
            partial.rename(final)
    return final


def _copy_dependencies(pom: Path, into: Path) -> None:
    _maven(pom, "dependency:copy-dependencies", "-DincludeScope=runtime", into)


def _unpack(pom: Path, into: Path) -> None:
    # By tar: Maven's own unpacking makes empty files of hard links, which Trino's archive is full of.
    into.mkdir()
    _maven(pom, "dependency:copy", "-Dmdep.useBaseVersion=true", into)
    for packed in into.glob("*.tar.gz"):
        subprocess.run(["tar", "-xzf", packed, "-C", into], check=True, timeout=600)
        packed.unlink()


def _maven(pom: Path, goal: str, option: str, into: Path) -> None:
    command = ["mvn", "-q", "-B", "-f", str(pom), goal, option, f"-DoutputDirectory={into}"]
    failures = []
    for _ in range(3):  # a registry that hiccups once must not fail a whole test run
        result = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if result.returncode == 0:
            return
        failures.append(result.stdout[-2000:] + result.stderr[-2000:])
    raise RuntimeError(f"Maven could not fetch {pom.name}:\n{failures[-1]}")


def fetch_all() -> None:
    for pom in sorted(POMS.glob("*.pom.xml")):
        print(jars(pom.name.removesuffix(".pom.xml")))
    for pom in sorted(ARCHIVES.glob("*.pom.xml")):
        # Large, and of no use where no Java is new enough for it.
        if pom.name != "trino.pom.xml" or java.newest(java.TRINO_NEEDS) is not None:
            print(archive(pom.name.removesuffix(".pom.xml")))
