"""Iceberg by pyiceberg."""

from pathlib import Path

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import StaticTable, Table

from parts.rest_catalog import RestCatalog
from parts.s3 import S3
from parts.s3_tables import TableBucket
from readers import places
from readers.rows import Row, from_arrow


def table(place: str | Path, s3: S3 | None = None) -> StaticTable:
    """The table itself, for tests that look at schemas, snapshots or files."""
    properties = {} if s3 is None else _s3_properties(s3)
    return StaticTable.from_metadata(places.metadata_file(place, s3), properties)


def glue_catalog(s3: S3) -> Catalog:
    """Glue beside that S3; its tables can be written to as well."""
    glue = {
        "glue.endpoint": s3.endpoint,
        "glue.region": s3.region,
        "glue.access-key-id": s3.access_key,
        "glue.secret-access-key": s3.secret_key,
    }
    return load_catalog("glue", type="glue", **glue, **_s3_properties(s3))


def rest_catalog(catalog: RestCatalog) -> Catalog:
    """Tables of a REST catalog; they can be written to as well."""
    properties = _s3_properties(catalog.s3) if catalog.s3 else {}
    return load_catalog("rest", type="rest", uri=catalog.uri, **properties)


def s3_tables(bucket: TableBucket) -> Catalog:
    """Tables of a table bucket; they can be written to as well."""
    keys = {"access-key-id": bucket.s3.access_key, "secret-access-key": bucket.s3.secret_key}
    return load_catalog(
        "s3tables", type="rest", uri=f"{bucket.s3.endpoint}/iceberg", warehouse=bucket.arn,
        **{"rest.sigv4-enabled": "true", "rest.signing-name": "s3tables"},
        **{"rest.signing-region": bucket.s3.region, "client.region": bucket.s3.region},
        **{f"client.{key}": value for key, value in keys.items()},
        **_s3_properties(bucket.s3),
    )  # fmt: skip


def _s3_properties(s3: S3) -> dict[str, str]:
    return {
        "s3.endpoint": s3.endpoint,
        "s3.region": s3.region,
        "s3.access-key-id": s3.access_key,
        "s3.secret-access-key": s3.secret_key,
        "s3.force-virtual-addressing": "false",
    }


def iceberg(place: str | Path, s3: S3 | None = None) -> list[Row]:
    return rows(table(place, s3))


def rows(table: Table) -> list[Row]:
    return from_arrow(table.scan().to_arrow())
