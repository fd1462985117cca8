"""Partitioned tables of current rows: every transform, values that no path likes, rows that move from
one partition to another; in both formats, read by everybody, and passed over where a filter allows it."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest
from pyiceberg import expressions

import partitioned
import readers
from partitioned import (
    KINDS,
    SECOND,
    TABLES,
    Made,
    expected,
    filters,
    partition_by,
    partition_of,
    raw,
    same,
    transform_of,
)
from readers import with_deltalake, with_pyiceberg
from tables import FORMATS


@pytest.fixture(scope="module")
def made(kafka, tmp_path_factory) -> Made:
    lake = tmp_path_factory.mktemp("partitioned") / "lake"
    topic = "partitioned.public.t"
    return partitioned.make(kafka, topic, partitioned.config(kafka, topic, lake, list(TABLES)))


@pytest.mark.parametrize("name", TABLES)
def test_every_reader_returns_every_row(made, name):
    for kind, found in (("iceberg", readers.ICEBERG), ("delta", readers.DELTA)):
        for reader, read in found.items():
            what = f"{name} in {kind} by {reader}"
            same(read(made.place(kind, name)), expected(made, kind, name), what)


def test_spark_returns_every_row_and_the_right_ones_under_a_filter(made, spark):
    every = [(kind, name) for kind in FORMATS for name in TABLES]

    def read(table: tuple[str, str]) -> tuple[list[dict], list[list[int]]]:
        kind, name = table
        place, conditions = made.place(kind, name), [sql for sql, _ in filters(kind, name)]
        return getattr(spark, kind)(place), spark.where(kind, place, conditions, "id")

    for (kind, name), (rows, found) in zip(every, spark.each(read, every), strict=True):
        wanted = expected(made, kind, name)
        same(rows, wanted, f"{name} in {kind} by Spark")
        for (sql, keep), ids in zip(filters(kind, name), found, strict=True):
            right = [values["id"] for values in wanted if keep(values)]
            assert sorted(ids) == right, f"{name} in {kind} where {sql}"
            assert 0 < len(right) < len(wanted), sql


@pytest.mark.parametrize("name", TABLES)
def test_iceberg_files_hold_rows_of_their_partition(made, name):
    table = with_pyiceberg.table(made.place("iceberg", name))
    fields = table.spec().fields
    suffixes = [(column + suffix) for column, suffix, _ in map(transform_of, TABLES[name])]
    assert [field.name for field in fields] == suffixes
    assert [str(field.transform) for field in fields] == [
        str(transform) for _, _, transform in map(transform_of, TABLES[name])
    ]
    seen = 0
    for task in table.scan().plan_files():
        partition = [task.file.partition[i] for i in range(len(fields))]
        for values in physical_rows(task.file.file_path):
            assert [partition_of(by, values) for by in TABLES[name]] == partition
            seen += 1
        for delete in task.delete_files:
            assert [delete.partition[i] for i in range(len(fields))] == partition
    # Where files are rewritten no dead row stays behind.
    assert seen == len(made.rows) if name == "rewritten" else seen > len(made.rows)


def physical_rows(path: str) -> list[dict]:
    """Dead ones, too."""
    from readers.rows import from_arrow

    table = pq.ParquetFile(path.removeprefix("file://")).read()
    return from_arrow(table.select(list(KINDS)))


def test_pyiceberg_plans_the_files_of_a_filter_and_no_others(made):
    rows = 0
    for name, filters in {
        "identity": [("region", "=", "north"), ("region", "=", "a/b=c%d"), ("region", "null", None)],
        "coarse": [("born", "<", date(1970, 1, 1)), ("price", "=", Decimal("104.56"))],
        "fine": [("id", "=", 4), ("small", "=", -37), ("at", ">=", "2017-11-01T00:00:00+00:00")],
        "texts": [("at", ">=", "2017-11-01T00:00:00+00:00"), ("region", "=", "ünï 😀")],
        "plain": [
            ("id", "=", 4), ("small", "=", -37), ("price", "=", Decimal("104.56")),
            ("at", ">=", "2017-11-01T00:00:00+00:00"),
        ],
        "numbers": [("born", "=", date(1970, 1, 1) + timedelta(days=96)), ("price", ">=", Decimal("100.00"))],
    }.items():
        table = with_pyiceberg.table(made.place("iceberg", name))
        every = {task.file.file_path: task.file for task in table.scan().plan_files()}
        for column, op, value in filters:
            kind = {
                "=": expressions.EqualTo, "<": expressions.LessThan, ">=": expressions.GreaterThanOrEqual,
            }.get(op)  # fmt: skip
            condition = expressions.IsNull(column) if op == "null" else kind(column, value)
            planned = {task.file.file_path for task in table.scan(condition).plan_files()}
            right = {path for path in every if may_hold(path, name, column, op, value)}
            assert planned == right, f"{name}: {condition}"
            assert 0 < len(planned) < len(every), f"{name}: {condition}"
            rows += table.scan(condition).to_arrow().num_rows
    assert rows > 0


def may_hold(path: str, name: str, column: str, op: str, value: object) -> bool:
    """By the file's partition, and by its smallest and largest value."""
    if isinstance(value, str) and column == "at":
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        value = round((value - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * SECOND
    elif isinstance(value, date):
        value = (value - date(1970, 1, 1)).days
    rows = physical_rows(path)
    present = [raw(row[column]) for row in rows if row[column] is not None]
    if op == "null":
        return len(present) < len(rows)
    if not present:
        return False
    for by in TABLES[name]:
        of, suffix, transform = transform_of(by)
        if of != column:
            continue
        of_value = transform.transform(KINDS[column].iceberg)(value)
        partition = partition_of(by, rows[0]) if rows[0][column] is not None else None
        if partition is None:
            return False
        if op == "=" and partition != of_value:
            return False
        # A bucket says nothing of what is more or less.
        ordered = suffix != "_bucket"
        if ordered and op == "<" and partition > of_value:
            return False
        if ordered and op == ">=" and partition < of_value:
            return False
    # Texts are cut in the statistics, so only the partition tells.
    if op == "=":
        return isinstance(value, str) or min(present) <= value <= max(present)
    return min(present) < value if op == "<" else max(present) >= value


@pytest.mark.parametrize("name", TABLES)
def test_delta_files_are_named_and_described_by_their_partition(made, name):
    table = with_deltalake.table(made.place("delta", name))
    columns = [column + suffix for column, suffix, _ in map(transform_of, partition_by("delta", name))]
    assert table.metadata().partition_columns == columns
    place = Path(made.place("delta", name))
    uris = table.file_uris()
    assert len(uris) > 1
    for uri in uris:
        path = Path(uri.removeprefix("file://"))
        # The library percent-encodes what it shows.
        path = path if path.is_file() else Path(unquote(str(path)))
        folders = path.relative_to(place).parts[1:-1]
        assert [folder.partition("=")[0] for folder in folders] == columns
        assert all(folder.isascii() and len(folder) < 200 for folder in folders)


@pytest.mark.parametrize("kind", FORMATS)
def test_lakebed_itself_shows_and_checks_a_partitioned_table(made, lakebed, kind):
    for name in TABLES:
        table = f"silver.{name}_{kind}"
        shown = lakebed.run(["show", table, "--count"], made.config)
        assert shown.returncode == 0 and str(len(made.rows)) in shown.stdout, shown.stderr
        checked = lakebed.run(["check", "--table", table], made.config)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("kind", FORMATS)
def test_other_partitions_than_the_table_has_are_refused(made, lakebed, kind):
    config = {**made.config, "tables": [dict(said) for said in made.config["tables"]]}
    config["tables"] = [said for said in config["tables"] if said["name"] == f"identity_{kind}"]
    config["tables"][0]["partition_by"] = ["region"]
    refused = "is partitioned by `region`, `flag`, `partition_by` says `region`"
    checked = lakebed.run(["check"], config)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert f"PROBLEM  table `silver.identity_{kind}` {refused}" in checked.stdout
    ran = lakebed.run(["run", "--until-caught-up"], config)
    assert ran.returncode == 3, ran.stderr[-3000:]
    assert refused in ran.stderr
