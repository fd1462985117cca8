"""Iceberg by pyiceberg."""

from pathlib import Path

from pyiceberg.table import StaticTable

from parts.s3 import S3
from readers import places
from readers.rows import Row, from_arrow


def table(place: str | Path, s3: S3 | None = None) -> StaticTable:
    """The table itself, for tests that look at schemas, snapshots or files."""
    properties = {}
    if s3 is not None:
        properties = {
            "s3.endpoint": s3.endpoint,
            "s3.region": s3.region,
            "s3.access-key-id": s3.access_key,
            "s3.secret-access-key": s3.secret_key,
            "s3.force-virtual-addressing": "false",
        }
    return StaticTable.from_metadata(places.metadata_file(place, s3), properties)


def iceberg(place: str | Path, s3: S3 | None = None) -> list[Row]:
    return from_arrow(table(place, s3).scan().to_arrow())
