"""Partitioned tables of current rows: every transform, values that no path likes, rows that move from
one partition to another; in both formats, read by everybody, and passed over where a filter allows it."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest
from pyiceberg import expressions, transforms, types

import readers
import records
import tables
from parts import topics
from readers import with_deltalake, with_pyiceberg
from readers.rows import Date, Instant, Timestamp
from tables import FORMATS, Entry

COLUMNS = {
    "small": {"type": "int"},
    "price": {"type": "decimal(9,2)", "encoding": "string"},
    "born": {"type": "date", "unit": "days"},
    "local": {"type": "timestamp", "unit": "us"},
    "at": {"type": "timestamptz", "unit": "us"},
    "bytes": {"type": "binary", "encoding": "hex"},
}
TABLES = {
    "identity": ["region", "flag"],
    "coarse": ["year(born)", "hour(local)", "bucket(3, price)"],
    "fine": ["month(at)", "bucket(4, id)", "truncate(10, small)"],
    "texts": ["day(at)", "truncate(2, region)", "bucket(2, region)", "bucket(2, bytes)"],
    "rewritten": ["month(at)", "truncate(2, region)"],
    "numbers": ["truncate(50, price)", "born", "bucket(3, born)", "bucket(2, at)", "bucket(2, local)"],
}
# Readers of Delta differ about partitions that are decimals.
NOT_IN_DELTA = "truncate(50, price)"
REGIONS = [
    "", " ", "north", "a/b=c%d", "%2F", "null", "..", "ünï 😀", "it's \"quoted\"", "line\nand\ttab",
    "x" * 300, "A b+c&d?#e", "{curly}:;|*<>\\", "\x01", "2026-01-01", None,
]  # fmt: skip
DAY = 86_400_000_000
SECOND = 1_000_000
MOMENT = 1_510_871_468_000_001


@dataclass(frozen=True)
class Kind:
    """A column: its type for Iceberg, and how a value of the record becomes a value of the table."""

    iceberg: types.IcebergType
    value: object = lambda value: value


KINDS = {
    "id": Kind(types.LongType()),
    "flag": Kind(types.BooleanType()),
    "small": Kind(types.IntegerType()),
    "price": Kind(types.DecimalType(9, 2), Decimal),
    "born": Kind(types.DateType(), Date),
    "local": Kind(types.TimestampType(), Timestamp),
    "at": Kind(types.TimestamptzType(), Instant),
    "region": Kind(types.StringType()),
    "bytes": Kind(types.BinaryType(), bytes.fromhex),
}


def row(number: int, turn: int) -> dict:
    """``turn`` moves most rows to other partitions."""
    sign = -1 if number % 3 == 0 else 1
    there = number + 7 * turn
    found = {
        "id": number,
        "flag": there % 2 == 0,
        "small": sign * (there % 40),
        "price": str((Decimal(sign * there * 1307) / 100).quantize(Decimal("0.01"))),
        "born": sign * there * 97 - 1,
        "local": sign * there * 1800 * SECOND - 1,
        "at": MOMENT - there * 11 * DAY * (1 if number % 4 else 120),
        "region": REGIONS[there % len(REGIONS)],
        "bytes": f"{there:04x}",
    }
    if number % 13 == 5:
        found.update({name: None for name in found if name != "id"})
    return found


def history() -> list[list[tuple[str, dict]]]:
    """Three batches: rows come; most move, some go; some come back."""
    first = [("c", row(n, 0)) for n in range(48)]
    second = [("d", row(n, 0)) if n % 8 == 7 else ("u", row(n, 1)) for n in range(40)]
    third = [("c", row(7, 2)), ("u", row(3, 0)), ("u", row(41, 0)), ("d", row(11, 1))]
    return [first, second, third]


def table_row(made: dict) -> dict:
    def value(name: str, value: object) -> object:
        return None if value is None else KINDS[name].value(value)

    return {name: value(name, cell) for name, cell in made.items()}


@dataclass
class Made:
    lake: Path
    rows: list[dict]
    config: dict

    @staticmethod
    def by(kind: str, name: str) -> list[str]:
        return [by for by in TABLES[name] if kind == "iceberg" or by != NOT_IN_DELTA]

    def place(self, kind: str, name: str) -> str:
        return entry("", kind, name).place(self.lake, "silver")


def entry(topic: str, kind: str, name: str) -> Entry:
    return Entry(topic, f"{name}_{kind}", kind)


@pytest.fixture(scope="module")
def made(kafka, tmp_path_factory) -> Made:
    from parts import Lakebed

    topic, lake = "partitioned.public.t", tmp_path_factory.mktemp("partitioned") / "lake"
    topics.create_topic(kafka, topic)
    entries = [entry(topic, kind, name) for kind in FORMATS for name in TABLES]
    config = tables.config(kafka.lakebed_config(), lake, entries, "partitioned")
    for said in config["tables"]:
        said["columns"] = COLUMNS
        said["partition_by"] = Made.by(said["format"], said["name"].split("_")[0])
        said["layers"] = {"bronze": False}
        if said["name"].startswith("rewritten"):
            said["mode"] = "copy-on-write"
    program, number, state = Lakebed(), 0, {}
    try:
        for batch in history():
            produced = []
            for op, made in batch:
                produced.append(records.record(topic, number, made, op))
                number += 1
                state.pop(made["id"], None) if op == "d" else state.update({made["id"]: made})
            topics.produce(kafka, produced)
            # Each time a new process: keys are found again in partitioned tables.
            ran = program.run(["run", "--until-caught-up"], config)
            assert ran.returncode == 0, ran.stderr[-3000:]
    finally:
        program.close()
    return Made(lake, [table_row(state[number]) for number in sorted(state)], config)


def transform_of(by: str) -> tuple[str, str, transforms.Transform]:
    """Column, suffix of the partition's name, and pyiceberg's own transform."""
    name, _, inside = by.partition("(")
    *width, column = [part.strip() for part in inside.rstrip(")").split(",")] if inside else [name]
    width = int(width[0]) if width else None
    return column, *{
        "year": ("_year", transforms.YearTransform()),
        "month": ("_month", transforms.MonthTransform()),
        "day": ("_day", transforms.DayTransform()),
        "hour": ("_hour", transforms.HourTransform()),
        "bucket": ("_bucket", transforms.BucketTransform(width or 1)),
        "truncate": ("_trunc", transforms.TruncateTransform(width or 1)),
    }.get(name, ("", transforms.IdentityTransform()))


def raw(value: object) -> object:
    """As pyiceberg's transforms take it."""
    if isinstance(value, Date):
        return value.days
    return value.micros if isinstance(value, Timestamp | Instant) else value


def partition_of(by: str, values: dict) -> object:
    column, _, transform = transform_of(by)
    value = raw(values[column])
    return None if value is None else transform.transform(KINDS[column].iceberg)(value)


def delta_value(by: str, values: dict) -> object:
    """What Delta's column holds: years as they are counted, months and hours as text."""
    value = partition_of(by, values)
    name = by.partition("(")[0]
    if value is None:
        return None
    if name == "year":
        return value + 1970
    if name == "month":
        return f"{value // 12 + 1970:04}-{value % 12 + 1:02}"
    if name == "hour":
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=value)
        return moment.strftime("%Y-%m-%d-%H")
    if name == "day" or by == "born":
        return Date(value)
    return value


def expected(made: Made, kind: str, name: str) -> list[dict]:
    """Rows with the columns that Delta adds; an empty text that it is partitioned by is NULL there."""
    found = []
    for values in made.rows:
        values = dict(values)
        if kind == "delta":
            for by in made.by(kind, name):
                column, suffix, _ = transform_of(by)
                cell = delta_value(by, values)
                if suffix:
                    values[column + suffix] = None if cell == "" else cell
            if "region" in TABLES[name] and values["region"] == "":
                values["region"] = None
        found.append(values)
    return found


def own(rows: list[dict]) -> list[dict]:
    """Without what every table has, in the order of the keys."""
    rows = [{n: v for n, v in row.items() if not n.startswith("_cdc_")} for row in rows]
    return sorted(rows, key=lambda row: row["id"])


def same(rows: list[dict], wanted: list[dict], what: str) -> None:
    rows = own(rows)
    if any(isinstance(row.get("price"), Decimal) for row in rows):
        # Delta holds decimals at the greatest precision, the scale is the same.
        assert {row["price"].as_tuple().exponent for row in rows if row["price"] is not None} == {-2}
    tables.same(rows, [dict(sorted_as(rows[0], row)) for row in wanted], what)


def sorted_as(order: dict, row: dict) -> list[tuple]:
    assert set(order) == set(row), set(order) ^ set(row)
    return [(name, row[name]) for name in order]


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


def filters(kind: str, name: str) -> list[tuple[str, object]]:
    """Conditions that prune, in SQL and in Python."""

    def known(column: str, holds) -> object:
        return lambda values: values[column] is not None and holds(values[column])

    since = MOMENT - 200 * DAY
    moment = datetime.fromtimestamp(since // SECOND, UTC)
    at = f"at >= timestamp '{moment:%Y-%m-%d %H:%M:%S}Z'"
    recent = known("at", lambda at: at.micros >= since // SECOND * SECOND)
    found = {
        "identity": [
            ("region = 'a/b=c%d' and not flag", lambda v: v["region"] == "a/b=c%d" and v["flag"] is False),
            ("region is null", lambda v: v["region"] is None),
            ("region = 'ünï 😀'", lambda v: v["region"] == "ünï 😀"),
        ],
        "coarse": [
            ("born < date '1970-01-01'", known("born", lambda born: born.days < 0)),
            ("price = 104.56", lambda v: v["price"] == Decimal("104.56")),
        ],
        "fine": [(at, recent), ("id = 4", lambda v: v["id"] == 4), ("small = -37", lambda v: v["small"] == -37)],
        "rewritten": [(at, recent), ("region = 'north'", lambda v: v["region"] == "north")],
        "texts": [(at, recent), ("region like 'ün%'", known("region", lambda r: r.startswith("ün")))],
        "numbers": [("price >= 100", known("price", lambda price: price >= 100))],
    }[name]
    if kind == "delta" and name == "coarse":
        found.append(("born_year = 1969", lambda v: v["born_year"] == 1969))
        found.append(("local_hour >= '1970-01-01-05'", known("local_hour", lambda h: h >= "1970-01-01-05")))
    if kind == "delta" and name == "texts":
        day = date(2017, 1, 1)
        days = (day - date(1970, 1, 1)).days
        found.append((f"at_day >= date '{day}'", known("at_day", lambda at: at.days >= days)))
    return found


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
    columns = [column + suffix for column, suffix, _ in map(transform_of, made.by("delta", name))]
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
    ran = lakebed.run(["run", "--until-caught-up"], config)
    assert ran.returncode == 3, ran.stderr[-3000:]
    assert "is partitioned by `region`, `flag`, `partition_by` says `region`" in ran.stderr
