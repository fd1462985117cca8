"""A database under load, followed while it changes, in Iceberg and in Delta at once.

One run for the whole module; the tests look at it from different sides.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

import readers
import tables
import workload
from parts import Kafka, Lakebed, topics
from parts.process import wait_until
from parts.topics import Record
from readers.compare import compare, problems
from readers.rows import Row
from readers.source import SourceTable, from_postgres
from tables import FORMATS, LAYERS, Entry

SNAPSHOT_ROWS = 5_400
CHANGES = 20_400
PREFIX = "live"
GROUP = "live"

# What a reader has to return for a value of the source, and not digits in a text.
SHAPES = {
    "composite": {"region": "str", "number": "int", "quantity": "int", "since": "Instant"},
    "document": {"id": "int", "body": "str"},
    "mixed": {
        "price": "Decimal", "ratio": "Decimal", "score": "Decimal", "happened": "Instant",
        "written": "Timestamp", "day": "Date", "payload": "str", "tags": "list",
        "numbers": "list", "amounts": "list", "flag": "bool", "weight": "float",
        "factor": "float", "small": "int", "raw": "bytes", "reference": "str",
    },
}  # fmt: skip


@dataclass
class Live:
    location: Path
    load: workload.Workload
    source: dict[str, SourceTable]
    records: dict[str, list[Record]]
    entries: list[Entry]
    config: dict
    kafka: Kafka
    _read: dict[tuple, list[Row]] = field(default_factory=dict)

    def table(self, entry: Entry) -> str:
        return entry.topic.rsplit(".", 1)[1]

    def of_format(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.format == kind]

    def rows(self, entry: Entry, layer: str) -> list[Row]:
        """By the format's first reader, read once."""
        key = (entry, layer)
        if key not in self._read:
            place = entry.place(self.location, layer)
            self._read[key] = tables.in_order(tables.FIRST_READER[entry.format](place))
        return self._read[key]


@pytest.fixture(scope="module")
def live(kafka, postgres, connect, tmp_path_factory) -> Live:
    load = workload.Workload(postgres, PREFIX, workload.seed())
    load.create(SNAPSHOT_ROWS)
    connect.create_postgres_connector(
        PREFIX, postgres, PREFIX, ",".join(f"public.{table}" for table in workload.TABLES),
        schemas=True,
        # Two tables of three partitions: in one of them, keys that change leave values unsent.
        topic__creation__groups="many",
        topic__creation__many__include=r".*\.(composite|document)",
        topic__creation__many__partitions=3,
        topic__creation__many__replication__factor=1,
    )  # fmt: skip
    names = [f"{PREFIX}.public.{table}" for table in workload.TABLES]
    wait_until(lambda: set(names) <= set(topics.topics(kafka)), 60, "topics of the snapshot")

    location = tmp_path_factory.mktemp("live")
    entries = [
        Entry(f"{PREFIX}.public.{table}", f"{table}_{kind}", kind)
        for table in workload.TABLES
        for kind in FORMATS
    ]
    batch = {"max_age": "1s", "max_rows": 2000}
    config = tables.config(kafka.lakebed_config(), location, entries, GROUP, batch=batch)
    program = Lakebed()
    try:
        running = program.start(config, "run")
        load.run(CHANGES // 2)
        load.evolve()
        load.run(CHANGES - CHANGES // 2)
        connect.wait_caught_up(PREFIX, postgres, PREFIX)
        tables.wait_committed(kafka, GROUP, running, tables.ends(kafka, names), 240)
        running.sigterm()
        running.expect(0, 30)
        # Nothing is left to do, and nothing is done twice.
        program.start(config, "run", "--until-caught-up").expect(0, 60)
    finally:
        program.close()

    with postgres.connect(PREFIX) as connection:
        source = {t: from_postgres(connection, f"public.{t}") for t in workload.TABLES}
    records = {name: topics.read_topic(kafka, name) for name in names}
    yield Live(location, load, source, records, entries, config, kafka)
    connect.delete_connector(PREFIX, postgres, PREFIX)
    postgres.drop_database(PREFIX)


def test_the_load_was_what_it_should_be(live):
    """Otherwise an equal table proves little."""
    assert sum(counts["snapshot"] for counts in live.load.counts.values()) >= 5_000
    assert live.load.changes() >= 20_000
    for table, counts in live.load.counts.items():
        assert min(counts[kind] for kind in ("insert", "update", "move", "delete")) > 200
        assert len(live.records[f"{PREFIX}.public.{table}"]) == live.load.records(table)
    unchanged = b'"body":"__debezium_unavailable_value"'
    documents = [
        r for r in live.records[f"{PREFIX}.public.document"] if unchanged in (r.value or b"")
    ]
    creates = [r for r in documents if b'"op":"c"' in r.value]
    assert len(documents) > 1000 and len(creates) > 100
    for table in ("composite", "document"):
        assert {r.partition for r in live.records[f"{PREFIX}.public.{table}"]} == {0, 1, 2}


@pytest.mark.parametrize("kind", FORMATS)
def test_silver_equals_the_source(live, kind):
    comparisons = [
        compare(live.source[live.table(entry)], live.rows(entry, "silver"))
        for entry in live.of_format(kind)
    ]
    assert problems(comparisons) == []
    for entry, comparison in zip(live.of_format(kind), comparisons, strict=True):
        source = live.source[live.table(entry)]
        assert comparison.rows == len(source.rows) > 1_500
        assert comparison.cells == len(source.rows) * len(source.columns)
        shapes = {column: {shape} for column, shape in SHAPES[live.table(entry)].items()}
        assert {column: comparison.shapes[column] for column in shapes} == shapes
    incomplete = [
        r for e in live.of_format(kind) for r in live.rows(e, "silver") if r["_cdc_incomplete"]
    ]
    assert incomplete == []


@pytest.mark.parametrize("kind", FORMATS)
def test_bronze_holds_each_record_once(live, kind):
    for entry in live.of_format(kind):
        records = live.records[entry.topic]
        assert tables.log_problems(records, live.rows(entry, "bronze")) == []


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("layer", LAYERS)
def test_the_tables_say_how_far_they_are(live, kind, layer):
    for entry in live.of_format(kind):
        wanted = tables.ends(live.kafka, [entry.topic])
        assert tables.progress(entry, layer, live.location, wanted, None) == wanted


READERS = [("iceberg", name) for name in readers.ICEBERG] + [
    ("delta", name) for name in readers.DELTA
]


@pytest.mark.parametrize(("kind", "name"), READERS)
def test_every_reader_reads_the_same(live, kind, name):
    read = {"iceberg": readers.ICEBERG, "delta": readers.DELTA}[kind][name]
    for entry in live.of_format(kind):
        for layer in LAYERS:
            rows = tables.in_order(read(entry.place(live.location, layer)))
            tables.same(rows, live.rows(entry, layer), f"{layer}.{entry.name}", name == "chdb")


def test_spark_reads_the_same(live, spark):
    wanted = [(entry, layer) for entry in live.entries for layer in LAYERS]
    found = spark.read_all([(e.format, e.place(live.location, layer)) for e, layer in wanted])
    for (entry, layer), rows in zip(wanted, found, strict=True):
        tables.same(tables.in_order(rows), live.rows(entry, layer), f"{layer}.{entry.name}")


def test_show_counts_the_rows(live, lakebed):
    for entry in live.entries:
        for layer in LAYERS:
            shown = lakebed.run(["show", f"{layer}.{entry.name}", "--count"], live.config)
            assert shown.returncode == 0, shown.stderr
            assert shown.stdout.split()[-1] == str(len(live.rows(entry, layer)))
