"""Partitioned and rewritten tables on S3, looked up in Glue: whatever characters their folders are named
with, every reader finds every file, and under a filter the right rows."""

import pytest

import partitioned
import tables
from partitioned import REWRITTEN, Made, expected, filters, partition_by, same, transform_of
from readers import with_deltalake, with_duckdb, with_pyiceberg, with_trino
from tables import FORMATS

# Texts as they are and cut, every other type as it is, and files that are rewritten.
NAMES = ["identity", "texts", "plain", *REWRITTEN]
DATABASE = "partitioned"
# Enough for each text; most rows lie in a partition of their own, which is a file for each reader.
ROWS = 36


@pytest.fixture(scope="module")
def made(kafka, s3, trino) -> Made:
    if trino is not None:
        # Ready when the other readers are through.
        trino.spawn()
    lake = f"{s3.create_bucket('partitioned')}/lake"
    topic = "partitioned-on-aws.public.t"
    config = partitioned.config(kafka, topic, lake, NAMES, s3=s3.lakebed_config())
    catalog = {"type": "glue", "endpoint": s3.endpoint, "create_databases": True}
    config["lake"] |= {"catalog": catalog, "silver": {"database": DATABASE}}
    return partitioned.make(kafka, topic, config, ROWS)


def entry(s3, kind: str, name: str) -> dict:
    found = s3.client("glue").get_table(DatabaseName=DATABASE, Name=f"{name}_{kind}")
    return found["Table"]


def metadata_location(s3, name: str) -> str:
    return entry(s3, "iceberg", name)["Parameters"]["metadata_location"]


@pytest.mark.parametrize("name", NAMES)
def test_every_reader_returns_every_row(made, s3, name):
    table = with_pyiceberg.glue_catalog(s3).load_table((DATABASE, f"{name}_iceberg"))
    place = made.place("delta", name)
    for kind, reader, rows in (
        ("iceberg", "pyiceberg", with_pyiceberg.rows(table)),
        ("iceberg", "DuckDB", with_duckdb.iceberg(metadata_location(s3, name), s3)),
        ("delta", "deltalake", with_deltalake.delta(place, s3)),
        ("delta", "DuckDB", with_duckdb.delta(place, s3)),
    ):
        same(rows, expected(made, kind, name), f"{name} in {kind} by {reader}")


def test_spark_returns_every_row(made, spark):
    for name in NAMES:
        rows = spark.iceberg_in_glue(DATABASE, f"{name}_iceberg")
        same(rows, expected(made, "iceberg", name), f"{name} in iceberg by Spark")
        rows = spark.delta(made.place("delta", name))
        same(rows, expected(made, "delta", name), f"{name} in delta by Spark")


@pytest.mark.parametrize("kind", FORMATS)
def test_trino_returns_every_row_and_the_right_ones_under_a_filter(made, trino, kind):
    if trino is None:
        pytest.skip("no Java that is new enough for Trino, Athena's nearest relative")
    trino.wait_ready()
    for name in NAMES:
        wanted = expected(made, kind, name)
        rows = with_trino.table(trino, kind, DATABASE, f"{name}_{kind}")
        rows = sorted(rows, key=lambda row: row["id"])
        in_trino = with_trino.in_millis(wanted, rows) if kind == "delta" else wanted
        same(rows, in_trino, f"{name} in {kind} by Trino")
        asked = filters(kind, name)
        found = ids_under(trino, f'{kind}."{DATABASE}"."{name}_{kind}"', [sql for sql, _ in asked])
        for (sql, keep), ids in zip(asked, found, strict=True):
            right = [row["id"] for row in wanted if keep(row)]
            assert ids == right and 0 < len(ids) < len(wanted), f"{name} in {kind} where {sql}"


def ids_under(trino, table: str, conditions: list[str]) -> list[list[int]]:
    """All in one query: each costs a second."""
    parts = [f"SELECT {n} AS n, id FROM {table} WHERE {sql}" for n, sql in enumerate(conditions)]
    rows = with_trino.query(trino, " UNION ALL ".join(parts))
    return [sorted(row["id"] for row in rows if row["n"] == n) for n in range(len(conditions))]


@pytest.mark.parametrize("name", NAMES)
def test_glue_shows_partitions_as_columns_and_files_lie_in_folders_named_in_ascii(made, s3, name):
    """Athena takes partitions from the log; of the entry's own it would ask Glue for each."""
    for kind in FORMATS:
        assert entry(s3, kind, name).get("PartitionKeys", []) == []
    names = [column + suffix for column, suffix, _ in map(transform_of, partition_by("delta", name))]
    assert with_deltalake.table(made.place("delta", name), s3).metadata().partition_columns == names
    for kind in FORMATS:
        folder = f"{made.place(kind, name)}/data"
        keys = [key for key in tables.files(folder, s3) if key.endswith(".parquet")]
        assert len(keys) > 1 and all(key.isascii() for key in keys), keys


@pytest.mark.parametrize("name", REWRITTEN)
def test_rewritten_files_ask_nothing_of_readers(made, s3, name):
    """Those which know neither deletes nor vectors read them, too."""
    table = with_pyiceberg.glue_catalog(s3).load_table((DATABASE, f"{name}_iceberg"))
    tasks = list(table.scan().plan_files())
    assert not any(task.delete_files for task in tasks)
    assert sum(task.file.record_count for task in tasks) == len(made.rows)
    delta = with_deltalake.table(made.place("delta", name), s3)
    assert "deletionVectors" not in (delta.protocol().reader_features or [])
    counts = delta.get_add_actions(flatten=True)["num_records"].to_pylist()
    assert sum(counts) == len(made.rows)


def test_lakebed_itself_shows_and_checks_them(made, lakebed):
    checked = lakebed.run(["check", "--all-tables"], made.config)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for kind in FORMATS:
        shown = lakebed.run(["show", f"{DATABASE}.identity_{kind}", "--count"], made.config)
        assert shown.stdout.strip() == str(len(made.rows)), shown
