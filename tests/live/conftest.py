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
