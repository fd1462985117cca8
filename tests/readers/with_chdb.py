"""Iceberg and Delta by chDB, which is ClickHouse in a library.

It runs in a process of its own: it reads local tables only below the working directory it was
started in, and changes signal handlers.
"""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa

from readers import places, with_deltalake, with_pyiceberg
from readers.rows import Row, from_arrow

_SECONDS = 120

_PROGRAM = """
import sys, chdb
sys.stdout.buffer.write(chdb.query(sys.argv[1], "ArrowStream").bytes())
"""


def iceberg(place: str | Path) -> list[Row]:
    schema = with_pyiceberg.table(place).schema().as_arrow()
    return _read("icebergLocal", places.folder(place), schema)


def delta(place: str | Path) -> list[Row]:
    schema = pa.schema(with_deltalake.table(place).schema().to_arrow())
    return _read("deltaLakeLocal", places.folder(place), schema)


def as_clickhouse_has_it(rows: list[Row]) -> list[Row]:
    """Rows of another reader with what ClickHouse cannot hold replaced: a NULL array is empty."""
    arrays = {name for row in rows for name, value in row.items() if isinstance(value, list)}
    return [
        {name: [] if name in arrays and value is None else value for name, value in row.items()}
        for row in rows
    ]


def _read(function: str, path: str, schema: pa.Schema) -> list[Row]:
    table = _query(f"SELECT * FROM {function}('{path}')")
    # ClickHouse has one type for text and bytes, and every timestamp of it has a zone: the table's
    # own schema says which is meant. A value that does not fit its type raises.
    target = pa.schema([schema.field(name).with_nullable(True) for name in table.column_names])
    return from_arrow(table.cast(target))


def _query(sql: str) -> pa.Table:
    settings = "session_timezone = 'UTC', output_format_arrow_string_as_string = 0"
    result = subprocess.run(
        [sys.executable, "-c", _PROGRAM, f"{sql} SETTINGS {settings}"],
        cwd="/", capture_output=True, timeout=_SECONDS, env={**os.environ, "TZ": "UTC"},
    )  # fmt: skip
    if result.returncode != 0:
        raise RuntimeError(f"chDB: {sql}\n{result.stderr.decode(errors='replace')[-3000:]}")
    return pa.ipc.open_stream(result.stdout).read_all()
