"""What the tests of partitioned tables have in common: the history of a source, the tables that it
becomes, and what readers are to find in them."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from pyiceberg import transforms, types

import records
import tables
from parts import Kafka, Lakebed, topics
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
    "plain": ["id", "small", "price", "at", "local"],
}
REWRITTEN = ["rewritten"]
# Readers of Delta differ about partitions that are decimals or timestamps.
NOT_IN_DELTA = ["truncate(50, price)", "price", "at", "local"]
REGIONS = [
    "", " ", "north", "a/b=c%d", "%2F", "null", "..", "ünï 😀", "it's \"quoted\"", "line\nand\ttab",
    "x" * 300, "A b+c&d?#e", "{curly}:;|*<>\\", "\x01", "2026-01-01", None, "😀😀b",
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


def history(rows: int) -> list[list[tuple[str, dict]]]:
    """Three batches: so many rows come; most move, some go; some come back."""
    first = [("c", row(n, 0)) for n in range(rows)]
    second = [("d", row(n, 0)) if n % 8 == 7 else ("u", row(n, 1)) for n in range(rows - 8)]
    third = [("c", row(7, 2)), ("u", row(3, 0)), ("u", row(rows - 7, 0)), ("d", row(11, 1))]
    return [first, second, third]


def table_row(changed: dict) -> dict:
    def value(name: str, value: object) -> object:
        return None if value is None else KINDS[name].value(value)

    return {name: value(name, cell) for name, cell in changed.items()}


@dataclass
class Made:
    """A lake with the tables ``names`` in both formats, and the rows that the source has in the end."""

    config: dict
    rows: list[dict]

    @property
    def database(self) -> str:
        return self.config["lake"].get("silver", {}).get("database", "silver")

    def place(self, kind: str, name: str) -> str:
        return f"{self.config['lake']['location']}/{self.database}/{name}_{kind}"


def partition_by(kind: str, name: str) -> list[str]:
    return [by for by in TABLES[name] if kind == "iceberg" or by not in NOT_IN_DELTA]


def config(kafka: Kafka, topic: str, location: str | Path, names: list[str], **more: object) -> dict:
    """Of silver alone, the consumer group named as the topic; ``more`` as for ``tables.config``."""
    entries = [Entry(topic, f"{name}_{kind}", kind) for kind in FORMATS for name in names]
    made = tables.config(kafka.lakebed_config(), location, entries, topic, **more)
    for said in made["tables"]:
        name = said["name"].split("_")[0]
        said["columns"] = COLUMNS
        said["partition_by"] = partition_by(said["format"], name)
        said["layers"] = {"bronze": False}
        if name in REWRITTEN:
            said["mode"] = "copy-on-write"
    return made


def make(kafka: Kafka, topic: str, config: dict, rows: int = 48) -> Made:
    """Has the program follow the whole history of so many rows."""
    topics.create_topic(kafka, topic)
    program, number, state = Lakebed(), 0, {}
    try:
        for batch in history(rows):
            produced = []
            for op, changed in batch:
                produced.append(records.record(topic, number, changed, op))
                number += 1
                state.pop(changed["id"], None) if op == "d" else state.update({changed["id"]: changed})
            topics.produce(kafka, produced)
            # Each time a new process: keys are found again in partitioned tables.
            program.start(config, "run", "--until-caught-up").expect(0, 240)
    finally:
        program.close()
    return Made(config, [table_row(state[number]) for number in sorted(state)])


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
            for by in partition_by(kind, name):
                column, suffix, _ = transform_of(by)
                cell = delta_value(by, values)
                if suffix:
                    values[column + suffix] = None if cell == "" else cell
            if "region" in TABLES[name] and values["region"] == "":
                values["region"] = None
        found.append(values)
    return found


def _own(rows: list[dict]) -> list[dict]:
    """Without what every table has, in the order of the keys."""
    rows = [{n: v for n, v in row.items() if not n.startswith("_cdc_")} for row in rows]
    return sorted(rows, key=lambda row: row["id"])


def same(rows: list[dict], wanted: list[dict], what: str) -> None:
    rows = _own(rows)
    if any(isinstance(row.get("price"), Decimal) for row in rows):
        # Delta holds decimals at the greatest precision, the scale is the same.
        assert {row["price"].as_tuple().exponent for row in rows if row["price"] is not None} == {-2}
    tables.same(rows, [dict(_sorted_as(rows[0], row)) for row in wanted], what)


def _sorted_as(order: dict, row: dict) -> list[tuple]:
    assert set(order) == set(row), set(order) ^ set(row)
    return [(name, row[name]) for name in order]


def filters(kind: str, name: str) -> list[tuple[str, object]]:
    """Conditions that prune, in SQL (of Spark and of Trino) and in Python."""

    def known(column: str, holds) -> object:
        return lambda values: values[column] is not None and holds(values[column])

    since = MOMENT - 200 * DAY
    moment = datetime.fromtimestamp(since // SECOND, UTC)
    at = f"at >= timestamp '{moment:%Y-%m-%d %H:%M:%S}+00:00'"
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
        "plain": [
            ("id = 4", lambda v: v["id"] == 4),
            ("price = 104.56", lambda v: v["price"] == Decimal("104.56")),
            (at, recent),
            ("local < cast(date '1970-01-01' as timestamp)", known("local", lambda local: local.micros < 0)),
        ],
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
