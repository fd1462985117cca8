"""The parts as pytest fixtures: started when the first test asks, once per run.

A test makes its own topics, databases, buckets and connectors under names nobody else uses; the
``unique`` fixture gives them.
"""

import inspect
import itertools
import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from parts import (  # noqa: E402
    S3,
    Connect,
    Kafka,
    Lakebed,
    MariaDB,
    Postgres,
    Registry,
    RestCatalog,
    Trino,
)

import workload  # noqa: E402
from beside import Beside  # noqa: E402

_numbers = itertools.count(1)

# Behind all others, in this order: what has a scenario that runs beside other tests, what kills or
# restarts parts that others use, and what looks at the tables of all tests.
_LAST = ("test_on_aws.py", "test_evolve.py", "test_group.py", "test_parts.py", "test_athena.py")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: _LAST.index(item.path.name) if item.path.name in _LAST else -1)
    config.is_whole_run = {item.path.name for item in items} == {
        path.name for path in Path(__file__).parent.glob("test_*.py")
    }


@pytest.fixture
def is_whole_run(request) -> bool:
    """Whether tests of every file have been chosen."""
    return request.config.is_whole_run


def _scenarios(session) -> list:
    modules = dict.fromkeys(item.module for item in session.items)
    return [module.BESIDE for module in modules if hasattr(module, "BESIDE")]


@pytest.fixture(scope="session", autouse=True)
def beside(request) -> Beside:
    """Runs the scenarios of the chosen tests' files from the first test on."""
    return Beside(_scenarios(request.session), request)


@pytest.fixture(scope="session")
def seed() -> int:
    """Of scenarios that run beside; their files' fixtures print it, to have it in a failure's report."""
    return workload.seed()


_PARTS = {"kafka": Kafka, "postgres": Postgres, "mariadb": MariaDB, "registry": Registry, "s3": S3}


class _Spawned:
    """Parts that are coming up; a test waits for those it asks for."""

    def __init__(self) -> None:
        self._parts = {}

    def spawn(self, name: str) -> None:
        if name not in self._parts:
            self._parts[name] = _PARTS[name]()
            self._parts[name].spawn()

    def ready(self, name: str):
        self.spawn(name)
        self._parts[name].wait_ready()
        return self._parts[name]

    def stop(self) -> None:
        for part in self._parts.values():
            part.stop()


@pytest.fixture(scope="session")
def spawned(request):
    """All that the chosen tests ask for come up side by side."""
    asked = {name for item in request.session.items for name in item.fixturenames}
    for scenario in _scenarios(request.session):
        asked |= set(inspect.signature(scenario).parameters)
    parts = _Spawned()
    try:
        for name in _PARTS:
            if name in asked:
                parts.spawn(name)
        yield parts
    finally:
        parts.stop()


@pytest.fixture(scope="session")
def kafka(spawned) -> Kafka:
    return spawned.ready("kafka")


@pytest.fixture(scope="session")
def postgres(spawned) -> Postgres:
    return spawned.ready("postgres")


@pytest.fixture(scope="session")
def mariadb(spawned) -> MariaDB:
    return spawned.ready("mariadb")


@pytest.fixture(scope="session")
def registry(spawned) -> Registry:
    return spawned.ready("registry")


@pytest.fixture(scope="session")
def s3(spawned) -> S3:
    return spawned.ready("s3")


@pytest.fixture(scope="session")
def rest_on_disk():
    with RestCatalog() as part:
        yield part


@pytest.fixture(scope="session")
def rest_on_s3(s3):
    with RestCatalog(s3) as part:
        yield part


@pytest.fixture(scope="session")
def connect(kafka, postgres, mariadb):
    """What the examples of connectors ask of the environment is the test's servers."""
    variables = {
        "SHOP_KAFKA": kafka.bootstrap,
        "SHOP_POSTGRES_HOST": postgres.host,
        "SHOP_POSTGRES_PORT": str(postgres.port),
        "SHOP_POSTGRES_PASSWORD": "trusted anyway",
        "SHOP_MYSQL_HOST": mariadb.host,
        "SHOP_MYSQL_PORT": str(mariadb.port),
        "SHOP_MYSQL_PASSWORD": "change me",
    }
    with Connect(kafka, variables) as part:
        yield part


@pytest.fixture(scope="session")
def spark(s3):
    """One Spark for all tables of a run: its start costs more than the reading."""
    from readers.with_spark import Spark

    with Spark(s3) as session:
        yield session


@pytest.fixture(scope="session")
def trino(s3):
    """Not started: it takes long, so whoever needs it says early when (``spawn``). None where no Java
    is new enough."""
    part = Trino(s3) if Trino.is_possible() else None
    yield part
    if part is not None:
        part.stop()


@pytest.fixture
def lakebed():
    """Starts the binary (``LAKEBED_BIN``, else the debug build); what still runs is killed."""
    starter = Lakebed()
    yield starter
    starter.close()


@pytest.fixture
def unique(request) -> str:
    """A name for this test's topics, databases and buckets: valid as each of them."""
    letters = "".join(c if c.isalnum() else "" for c in request.node.name.lower())
    return f"{letters[:30]}{next(_numbers)}"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recordings and tables written by others. They lie outside the project."""
    path = Path(os.environ.get("LAKEBED_SHARED", TESTS.parent.parent / "shared"))
    if not (path / "golden" / "manifest.json").is_file():
        pytest.skip(f"no recordings at {path}: set LAKEBED_SHARED")
    return path
