"""Tables that change their shape under load, at both databases, through Debezium as it is.

One run for the whole module: columns come, widen, change their names, go and come back as something
else; a table is dropped and made anew, another truncated; keys change while a long text stays as it is;
rows that no event told of are read again by an incremental snapshot; Connect and Lakebed are killed meanwhile.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import readers
import tables
from evolving import SILVER_NAMES, STABLE, TABLES, Load, MariaSource, PostgresSource, Source
from parts import Connect, Kafka, Lakebed, topics
from parts.process import wait_until
from parts.topics import Record
from readers import with_deltalake, with_pyiceberg
from readers.compare import EVERY, ROW, Expected, compare, problems
from readers.rows import Row
from readers.source import SourceTable
from tables import FORMATS, Entry

GROUP = "evolve"
KINDS = (PostgresSource.kind, MariaSource.kind)


@dataclass
class Evolved:
    location: Path
    sources: dict[str, Source]
    rows_of_source: dict[tuple[str, str], SourceTable]
    records: dict[str, list[Record]]
    # Records that said again what was said before the worker was killed.
    repeated: dict[str, int]
    entries: dict[tuple[str, str, str], Entry]  # by source, table and format
    log: str
    _read: dict[tuple, list[Row]] = field(default_factory=dict)

    def rows(self, kind: str, table: str, form: str, layer: str = "silver") -> list[Row]:
        """By the format's first reader, read once."""
        wanted = (kind, table, form, layer)
        if wanted not in self._read:
            place = self.entries[kind, table, form].place(self.location, layer)
            self._read[wanted] = tables.in_order(tables.FIRST_READER[form](place))
        return self._read[wanted]


class Follower:
    """Lakebed on all tables of both databases; started anew after a crash."""

    def __init__(self, kafka: Kafka, program: Lakebed, location: Path, sources) -> None:
        self.kafka, self.program = kafka, program
        self.entries = {
            (source.kind, table, form): Entry(
                source.topic(table), f"{source.kind}_{table}_{form}", form
            )
            for source in sources
            for table in TABLES
            for form in FORMATS
        }
        batch = {"max_age": "1s", "max_rows": 500}
        self.config = tables.config(
            kafka.lakebed_config(), location, list(self.entries.values()), GROUP, batch=batch
        )
        self.logs: list[str] = []
        self.start()

    def start(self) -> None:
        self.running = self.program.start(self.config, "run")

    def crash(self) -> None:
        self.running.kill9()
        self.logs.append(self.running.stderr)
        self.start()

    def wait_caught_up(self, names: list[str]) -> None:
        wanted = tables.ends(self.kafka, names)
        tables.wait_committed(self.kafka, GROUP, self.running, wanted, 120)

    def end(self, code: int) -> None:
        self.running.sigterm()
        self.running.expect(code, 60)
        self.logs.append(self.running.stderr)


@pytest.fixture(scope="module")
def evolved(kafka, postgres, mariadb, connect, tmp_path_factory) -> Evolved:
    sources = [PostgresSource(postgres, connect), MariaSource(mariadb, connect)]
    for source in sources:
        source.begin()
    for source in sources:
        source.caught_up()
    location = tmp_path_factory.mktemp("evolve")
    program = Lakebed()
    try:
        follower = Follower(kafka, program, location, sources)
        change_columns(sources, follower)
        settle_by_snapshot(sources, kafka)
        repeated = kill_the_worker(sources, connect, kafka)
        for source in sources:
            source.caught_up()
        going = [source.topic(table) for source in sources for table in TABLES if going_on(table)]
        follower.wait_caught_up(going)
        # One table of each database has halted, so that is what the process says in the end.
        follower.end(3)
    finally:
        program.close()
    yield Evolved(
        location,
        {source.kind: source for source in sources},
        {(source.kind, table): source.source(table) for source in sources for table in TABLES},
        {name: topics.read_topic(kafka, name) for name in going},
        repeated,
        follower.entries,
        "".join(follower.logs),
    )
    for source in sources:
        source.end()


def going_on(table: str) -> bool:
    return table != "rekeyed"


def change_columns(sources: list[Source], follower: Follower) -> None:
    """Each step waits until the connector is through: PostgreSQL's decodes by the tables as they
    are when it reads, and would stop at a column that has become something else meanwhile."""

    def each(statements, *changes: str) -> None:
        for source in sources:
            source.run(*(getattr(source, statements) if isinstance(statements, str) else statements))
            source.run(*changes)
        for source in sources:
            source.caught_up()

    with Load(sources[0]), Load(sources[1]):
        each(
            ("ALTER TABLE item ADD added text, ADD filled int NOT NULL DEFAULT 5",),
            "UPDATE item SET added = 'here', filled = 6 WHERE id <= 10",
        )
        each(
            "widen",
            "UPDATE item SET n = 5000000000 + id, f = id / 8.0, price = 1234567890.12, q = 1.2345"
            " WHERE id BETWEEN 5 AND 20",
        )
        follower.crash()
        each(
            ("ALTER TABLE item RENAME COLUMN note TO remark", "ALTER TABLE item DROP COLUMN gone"),
            "UPDATE item SET remark = 'new' WHERE id BETWEEN 10 AND 20",
        )
        each(("ALTER TABLE item ADD gone int",), "UPDATE item SET gone = id WHERE id > 30")
        each("names")
        for source in sources:
            source.run(f"UPDATE item SET {source.named} WHERE id < 20")
        each(
            ("DELETE FROM again WHERE id = 3",),
            "UPDATE again SET a = 'uno' WHERE id = 1",
        )
        each("again", "INSERT INTO again VALUES (1, 11, 'eleven'), (4, 44, NULL)")
        each(
            ("TRUNCATE TABLE cleared",),
            "INSERT INTO cleared VALUES (5, 'after'), (77, 'after')",
        )
        # A text can be longer than any number: rows of before could not be found any more.
        each("rekey", "INSERT INTO rekeyed VALUES ('three', 'three')")


def settle_by_snapshot(sources: list[Source], kafka: Kafka) -> None:
    """Rows that an ALTER has changed have no events: reading them again is what a user does."""
    with Load(sources[0]), Load(sources[1]):
        for source in sources:
            source.snapshot("item")
        for source in sources:
            wait_until(lambda: snapshots(kafka, source) == 1, 60, f"snapshot of {source.kind}", 0.5)


def snapshots(kafka: Kafka, source: Source) -> int:
    """Incremental snapshots that are through, as Debezium notifies."""
    if source.notifications not in topics.topics(kafka):
        return 0
    said = [json.loads(record.value) for record in topics.read_topic(kafka, source.notifications)]
    said = [entry.get("payload", entry) for entry in said]
    return sum(
        entry["aggregate_type"] == "Incremental Snapshot" and entry["type"] == "COMPLETED"
        for entry in said
    )


def kill_the_worker(sources: list[Source], connect: Connect, kafka: Kafka) -> dict[str, int]:
    """Under load, so that what was sent since the last stored position is sent again."""
    with Load(sources[0], MOVES), Load(sources[1], MOVES) as load:
        wait_until(lambda: load.changes > 150, 30, "load before the kill")
        connect.kill()
    with Load(sources[0], MOVES), Load(sources[1], MOVES):
        connect.start()
        for source in sources:
            connect.wait_running(source.prefix)
            source.caught_up()
    return {source.kind: repeats(kafka, source.topic("item")) for source in sources}


# What is sent again begins with keys that are gone by then: a long text moves on only if repeats
# are recognised.
MOVES = True


def repeats(kafka: Kafka, topic: str) -> int:
    """Changes whose position in the database's log was there before."""
    seen, again = set(), 0
    for record in topics.read_topic(kafka, topic):
        if record.value is None:
            continue
        event = json.loads(record.value)["payload"]
        source, op = event["source"], event["op"]
        place = (record.key, op, *(source.get(name) for name in ("lsn", "file", "pos", "row")))
        if op != "r":
            again += place in seen
            seen.add(place)
    return again


COLUMNS_LEFT = (
    Expected("item", "note", "renamed: its values are in `remark`", EVERY),
    Expected("item", "gone", "dropped and added again as a number, in `gone__2`", EVERY),
    Expected("item", "q", "two digits more behind the point, in `q__2`", EVERY),
)


def expected(evolved: Evolved, kind: str, table: str) -> list[Expected]:
    left = {
        "item": COLUMNS_LEFT,
        "again": (
            Expected("again", "a", "text before the table was dropped, in `a__2`", EVERY),
            Expected("again", ROW, "dropping a table tells of no row", ("2",)),
        ),
    }
    name = evolved.rows_of_source[kind, table].name
    return [Expected(name, e.column, e.reason, e.key) for e in left.get(table, ())]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", ["item", "again", "cleared"])
def test_silver_equals_the_source(evolved, table, kind, form):
    source = evolved.rows_of_source[kind, table]
    names = {"gone": "gone__2", "q": "q__2", "a": "a__2", **SILVER_NAMES}
    rows = evolved.rows(kind, table, form)
    result = compare(source, rows, names)
    assert problems([result], expected(evolved, kind, table)) == []
    assert result.cells == len(source.rows) * len(source.columns) > 0
    assert [row for row in rows if row["_cdc_incomplete"]] == []
    if table == "item":
        assert len(rows) > STABLE + 20
        shapes = {"n": {"int"}, "f": {"float"}, "price": {"Decimal"}, "q": {"Decimal"}}
        assert {column: result.shapes[column] for column in shapes} == shapes


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_bronze_holds_each_record_once(evolved, kind, form):
    for table in filter(going_on, TABLES):
        records = evolved.records[evolved.sources[kind].topic(table)]
        assert tables.log_problems(records, evolved.rows(kind, table, form, "bronze")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_connector_repeated_what_it_had_sent(evolved, kind):
    """Otherwise an equal table proves little."""
    assert evolved.repeated[kind] > 0


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_whose_key_changed_its_type_stands_where_it_was(evolved, kind, form):
    rows = evolved.rows(kind, "rekeyed", form)
    assert [(row["id"], row["v"]) for row in rows] == [(1, "one"), (2, "two")]
    topic = re.escape(evolved.sources[kind].topic("rekeyed"))
    told = [line for line in evolved.log.splitlines() if re.search(topic, line)]
    assert any("key column `id`" in line and "text" in line for line in told), told


@pytest.mark.parametrize("kind", KINDS)
def test_columns_widen_in_iceberg_and_are_wide_in_delta(evolved, kind):
    place = evolved.entries[kind, "item", "iceberg"].place(evolved.location, "silver")
    schema = with_pyiceberg.table(place).schema()
    iceberg = {name: str(schema.find_type(name)) for name in ("n", "f", "price", "q", "q__2")}
    place = evolved.entries[kind, "item", "delta"].place(evolved.location, "silver")
    fields = {field.name: field.type for field in with_deltalake.table(place).schema().fields}
    delta = {name: fields[name].type for name in iceberg}
    assert iceberg == {
        "n": "long", "f": "double", "price": "decimal(12, 2)", "q": "decimal(8, 2)",
        "q__2": "decimal(10, 4)",
    }  # fmt: skip
    assert delta == {
        "n": "long", "f": "double", "price": "decimal(38,2)", "q": "decimal(38,2)",
        "q__2": "decimal(38,4)",
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_widened_column_is_found_by_its_values(evolved, kind):
    """Bounds of before the change are as narrow as the column was."""
    place = evolved.entries[kind, "item", "iceberg"].place(evolved.location, "silver")
    table = with_pyiceberg.table(place)
    for wanted, predicate in ((lambda n: n >= 5_000_000_000, "n >= 5000000000"),
                              (lambda n: n < 30, "n < 30")):  # fmt: skip
        rows = evolved.rows(kind, "item", "iceberg")
        ids = sorted(row["id"] for row in rows if row["n"] is not None and wanted(row["n"]))
        found = table.scan(predicate, selected_fields=("id",)).to_arrow()["id"].to_pylist()
        assert sorted(found) == ids and len(ids) > 5


READERS = [("iceberg", name) for name in readers.ICEBERG] + [
    ("delta", name) for name in readers.DELTA
]


@pytest.mark.parametrize(("form", "name"), READERS)
def test_every_reader_reads_the_same(evolved, form, name):
    read = {"iceberg": readers.ICEBERG, "delta": readers.DELTA}[form][name]
    for kind in KINDS:
        for table in ("item", "again"):
            place = evolved.entries[kind, table, form].place(evolved.location, "silver")
            rows = tables.in_order(read(place))
            tables.same(rows, evolved.rows(kind, table, form), f"{kind} {table}", name == "chdb")


def test_spark_reads_the_same(evolved, spark):
    kind = PostgresSource.kind
    places = [evolved.entries[kind, "item", form].place(evolved.location, "silver") for form in FORMATS]
    found = spark.read_all(list(zip(FORMATS, places, strict=True)))
    for form, rows in zip(FORMATS, found, strict=True):
        tables.same(tables.in_order(rows), evolved.rows(kind, "item", form), form)
