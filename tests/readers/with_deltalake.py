"""Delta by delta-rs for Python."""

from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from parts.s3 import S3
from readers import places
from readers.rows import Row, from_arrow


def table(place: str | Path, s3: S3 | None = None) -> DeltaTable:
    """The table itself, for tests that look at versions, transactions or files."""
    options = {}
    if s3 is not None:
        options = {
            "AWS_ENDPOINT_URL": s3.endpoint,
            "AWS_REGION": s3.region,
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            "AWS_ALLOW_HTTP": "true",
        }
    return DeltaTable(places.local(place), storage_options=options)


def delta(place: str | Path, s3: S3 | None = None) -> list[Row]:
    # Not to_pyarrow_table, which refuses deletion vectors.
    query = QueryBuilder().register("t", table(place, s3)).execute("SELECT * FROM t")
    return from_arrow(pa.table(query))
