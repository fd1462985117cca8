"""The parts as pytest fixtures: started when the first test asks, once per run.

A test makes its own topics, databases, buckets and connectors under names nobody else uses; the
``unique`` fixture gives them.
"""

import itertools
import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from parts import S3, Connect, Kafka, Lakebed, MariaDB, Postgres, Registry, RestCatalog  # noqa: E402

_numbers = itertools.count(1)


def pytest_collection_modifyitems(config, items):
    """What looks at the tables of all tests comes after them."""
    items.sort(key=lambda item: item.path.name == "test_athena.py")
    config.is_whole_run = {item.path.name for item in items} == {
        path.name for path in Path(__file__).parent.glob("test_*.py")
    }


@pytest.fixture
def is_whole_run(request) -> bool:
    """Whether tests of every file have been chosen."""
    return request.config.is_whole_run


@pytest.fixture(scope="session")
def kafka():
    with Kafka() as part:
        yield part


@pytest.fixture(scope="session")
def postgres():
    with Postgres() as part:
        yield part


@pytest.fixture(scope="session")
def mariadb():
    with MariaDB() as part:
        yield part


@pytest.fixture(scope="session")
def registry():
    with Registry() as part:
        yield part


@pytest.fixture(scope="session")
def s3():
    with S3() as part:
        yield part


@pytest.fixture(scope="session")
def rest_on_disk():
    with RestCatalog() as part:
        yield part


@pytest.fixture(scope="session")
def rest_on_s3(s3):
    with RestCatalog(s3) as part:
        yield part


@pytest.fixture(scope="session")
def connect(kafka):
    with Connect(kafka) as part:
        yield part


@pytest.fixture(scope="session")
def spark():
    """One Spark for all tables of a run: its start costs more than the reading."""
    from readers.with_spark import Spark

    with Spark() as session:
        yield session


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
