"""Iceberg and Delta by DuckDB, its extensions taken from wheels so that nothing is downloaded."""

import importlib.util
from pathlib import Path

import duckdb

from parts.s3 import S3
from readers import places
from readers.rows import Row, from_arrow


def connection(s3: S3 | None = None) -> duckdb.DuckDBPyConnection:
    found = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for name in ("avro", "httpfs", "iceberg", "delta"):
        found.execute(f"LOAD '{_extension(name)}'")
    found.execute("SET TimeZone = 'UTC'")
    if s3 is not None:
        found.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{s3.access_key}', SECRET '{s3.secret_key}',"
            f" REGION '{s3.region}', ENDPOINT '127.0.0.1:{s3.port}',"
            " URL_STYLE 'path', USE_SSL false)"
        )
    return found


def iceberg(place: str | Path, s3: S3 | None = None) -> list[Row]:
    """By folder, so that DuckDB has to find its own way over the version hint."""
    return _scan("iceberg_scan", place, s3)


def delta(place: str | Path, s3: S3 | None = None) -> list[Row]:
    return _scan("delta_scan", place, s3)


def _scan(function: str, place: str | Path, s3: S3 | None) -> list[Row]:
    with connection(s3) as duck:
        path = places.local(place).replace("'", "''")
        return from_arrow(duck.execute(f"SELECT * FROM {function}('{path}')").to_arrow_table())


def _extension(name: str) -> Path:
    package = Path(importlib.util.find_spec(f"duckdb_extension_{name}").origin).parent
    return package / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
