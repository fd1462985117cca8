"""Every foreign reader returns the rows of tables that Spark wrote, deletes applied."""

import json
import shutil
import uuid
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog

import readers
from readers import with_chdb, with_deltalake, with_duckdb, with_pyiceberg
from readers.rows import Date, Instant, Timestamp, from_arrow

EPOCH = datetime(1970, 1, 1)
ROWS = 58


@pytest.fixture(scope="module")
def iceberg_table(shared) -> Path:
    """The metadata file. The paths inside are absolute, so the table has one place to lie."""
    place = Path("/tmp/lakebed-golden/iceberg_spark_mor")
    if not place.is_dir():
        # Under a name of its own first: another test run may do the same now.
        copy = place.with_name(f"{place.name}.{id(place)}")
        shutil.copytree(shared / "golden-tables" / "iceberg_spark_mor", copy)
        try:
            copy.rename(place)
        except OSError:
            shutil.rmtree(copy)
    return max(place.glob("metadata/0*.metadata.json"))


@pytest.fixture(scope="module")
def hadoop_table(iceberg_table) -> Path:
    """The same table under the file-system convention, which is how Lakebed leaves its own.

    In the same folder: ClickHouse cuts paths by the length of the folder that it was given.
    """
    metadata = iceberg_table.parent
    metadata.chmod(0o755)
    shutil.copyfile(iceberg_table, metadata / "v5.metadata.json")
    (metadata / "version-hint.text").write_text("5")
    return metadata.parent


@pytest.fixture(scope="module")
def delta_table(shared) -> Path:
    return shared / "golden-tables" / "delta_spark_dv"


@pytest.fixture(scope="module")
def expected(shared) -> list[dict]:
    lines = (shared / "golden-tables" / "delta_spark_dv.expected.jsonl").read_text().splitlines()
    rows = [expected_row(json.loads(line)) for line in lines]
    assert len(rows) == ROWS
    return rows


def expected_row(row: dict) -> dict:
    def micros(text: str) -> int:
        since = datetime.fromisoformat(text) - EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

    return {
        **row,
        "price": None if row["price"] is None else Decimal(row["price"]),
        "d": None if row["d"] is None else Date((date.fromisoformat(row["d"]) - EPOCH.date()).days),
        "ts": None if row["ts"] is None else Instant(micros(row["ts"])),
        "ntz": None if row["ntz"] is None else Timestamp(micros(row["ntz"])),
    }


def check(rows: list[dict], expected: list[dict]) -> None:
    rows = sorted(rows, key=lambda row: row["id"])
    assert rows == expected
    # Equality would let True pass for 1 and 1.0 for 1.
    assert types(rows) == types(expected)


def types(rows: list[dict]) -> list[list[type]]:
    return [[type(value) for value in row.values()] for row in rows]


@pytest.mark.parametrize("name", readers.ICEBERG)
def test_iceberg_by_metadata_file(name, iceberg_table, expected):
    check(readers.ICEBERG[name](iceberg_table), expected)


@pytest.mark.parametrize("name", readers.ICEBERG)
def test_iceberg_by_folder(name, hadoop_table, expected):
    check(readers.ICEBERG[name](hadoop_table), expected)


@pytest.mark.parametrize("name", readers.DELTA)
def test_delta(name, delta_table, expected):
    check(readers.DELTA[name](delta_table), expected)


def test_spark_reads_both(spark, iceberg_table, hadoop_table, delta_table, expected):
    tables = [("iceberg", iceberg_table), ("iceberg", hadoop_table), ("delta", delta_table)]
    for rows in spark.read_all(tables):
        check(rows, expected)


def test_delta_on_s3(s3, delta_table, expected, unique):
    place = f"{s3.create_bucket(unique)}/delta"
    for file in delta_table.rglob("*"):
        if file.is_file():
            key = f"delta/{file.relative_to(delta_table)}"
            s3.client().upload_file(str(file), unique, key)
    check(with_duckdb.delta(place, s3), expected)
    check(with_deltalake.delta(place, s3), expected)


def test_iceberg_on_s3(s3, iceberg_table, expected, unique):
    place = f"{s3.create_bucket(unique)}/iceberg"
    write_iceberg(s3, place, with_pyiceberg.table(iceberg_table).scan().to_arrow())
    check(with_pyiceberg.iceberg(place, s3), expected)
    check(with_duckdb.iceberg(place, s3), expected)


def test_every_shape_of_value(s3, tmp_path):
    """What the Spark tables lack: bytes, arrays, the bronze table's headers, an empty table."""
    data = shapes()
    write_iceberg(s3, f"file://{tmp_path}/iceberg", data)
    write_iceberg(s3, f"file://{tmp_path}/no_iceberg", data.slice(0, 0))
    deltalake.write_deltalake(tmp_path / "delta", data)
    deltalake.write_deltalake(tmp_path / "no_delta", data.slice(0, 0))
    for kind, reads in (("iceberg", readers.ICEBERG), ("delta", readers.DELTA)):
        for name, read in reads.items():
            expected = from_arrow(data)
            if name == "chdb":
                expected = with_chdb.as_clickhouse_has_it(expected)
            assert in_order(read(tmp_path / kind)) == expected, (kind, name)
            assert read(tmp_path / f"no_{kind}") == [], (kind, name)


def in_order(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: row["id"])


def shapes() -> pa.Table:
    header = pa.struct([("key", pa.string()), ("value", pa.binary())])
    columns = {
        "id": pa.array([1, 2, 3], pa.int64()),
        "bytes": pa.array([b"\x00\xff", b"", None], pa.binary()),
        "headers": pa.array(
            # No NULL here: pyiceberg writes an empty list in its stead.
            [[{"key": "h", "value": b"\xff"}, {"key": "", "value": None}], [], []],
            pa.list_(header),
        ),
        "texts": pa.array([["a", None, "\U0001f389"], [], None], pa.list_(pa.string())),
        "number": pa.array([Decimal("-9e27"), Decimal("1e-10"), None], pa.decimal128(38, 10)),
        "real": pa.array([0.1, float("inf"), None], pa.float32()),
        "double": pa.array([5e-324, -0.0, None], pa.float64()),
        "short": pa.array([-(2**31), 2**31 - 1, None], pa.int32()),
        "moment": pa.array([-1, 1767225600000001, None], pa.timestamp("us", "UTC")),
        "written": pa.array([-1, 1767225600000001, None], pa.timestamp("us")),
        "day": pa.array([-719162, 2932896, None], pa.date32()),
    }
    return pa.table(columns)


def write_iceberg(s3, place: str, data: pa.Table) -> None:
    """Under the file-system convention, as far as pyiceberg goes: it writes through a catalog, so
    the metadata file gets its other name and its hint afterwards."""
    catalog = load_catalog(
        "glue",
        **{
            "type": "glue",
            "glue.endpoint": s3.endpoint,
            "glue.region": s3.region,
            "glue.access-key-id": s3.access_key,
            "glue.secret-access-key": s3.secret_key,
            "s3.endpoint": s3.endpoint,
            "s3.region": s3.region,
            "s3.access-key-id": s3.access_key,
            "s3.secret-access-key": s3.secret_key,
        },
    )
    catalog.create_namespace_if_not_exists("readers")
    table = catalog.create_table(f"readers.t{uuid.uuid4().hex}", data.schema, location=place)
    table.append(data)
    metadata = table.io.new_input(table.metadata_location).open().read()
    for name, content in (("v2.metadata.json", metadata), ("version-hint.text", b"2")):
        with table.io.new_output(f"{place}/metadata/{name}").create() as file:
            file.write(content)
