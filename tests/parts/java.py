"""How the parts that are Java programs are started."""

import os
import re
from pathlib import Path

TRINO_NEEDS = 24

# Small, quick to start, and no compiler threads that would take the test's two cores away.
_SMALL_JVM = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true"]

_LOGGING = Path(__file__).parent / "log4j2.properties"


def home() -> Path | None:
    """JDK 17 where Debian puts it: newer ones start Kafka too, but were not tried with Spark."""
    for path in (os.environ.get("LAKEBED_JAVA_HOME"), "/usr/lib/jvm/java-17-openjdk-amd64"):
        if path and (Path(path) / "bin" / "java").exists():
            return Path(path)
    return None


def newest(at_least: int) -> Path | None:
    """The newest JDK of this machine, where one is new enough."""
    found = []
    for release in Path("/usr/lib/jvm").glob("*/release"):
        version = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(), re.MULTILINE)
        if version and int(version[1]) >= at_least:
            found.append((int(version[1]), release.parent))
    return max(found)[1] if found else None


def java(jars: Path, main_class: str, *args: str, heap: str = "384m") -> list[str]:
    return [
        _binary(), "-Xms128m", f"-Xmx{heap}", *_SMALL_JVM,
        f"-Dlog4j2.configurationFile=file:{_LOGGING}",
        "-cp", f"{jars}/*", main_class, *args,
    ]  # fmt: skip


def java_jar(jar: Path, settings: dict[str, object], heap: str = "256m") -> list[str]:
    """A program that is one jar to run and is told what to do by system properties."""
    options = [f"-D{name}={value}" for name, value in settings.items()]
    return [_binary(), f"-Xmx{heap}", *_SMALL_JVM, *options, "-jar", str(jar)]


def _binary() -> str:
    return str(home() / "bin" / "java") if home() else "java"


def properties(settings: dict[str, object]) -> str:
    return "".join(f"{key}={value}\n" for key, value in settings.items())
