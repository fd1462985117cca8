"""Recorded topics give the recorded source, in both formats, through a real Kafka.

Each recording is replayed once; what is known to differ from the source is listed by column and
reason, and is a failure as well when it does not show.
"""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

import tables
from parts import Lakebed, topics
from parts.topics import Record
from readers.compare import Comparison, Expected, compare, problems, silver_name
from readers.rows import Row
from readers.source import SourceTable, from_state
from tables import FORMATS, Entry

# Tables that no recording of this test brings into silver, and why.
LEFT_OUT = {
    "changes.nopk": "no key: append only, bronze",
    "changes.nopk_full": "no key: bronze",
    "changes.partitioned": "a message of the partitioned table itself; its leaves have the rows",
    "changes.trunc": "truncate",
    "changes.trunc_child": "truncate",
    "changes.three_trunc": "truncate",
    "evolve.t": "columns that change their type",
    "evolve.old_name": "renamed at the source, which knows it by its new name only",
    "types.ext": "hstore and ranges",
    "types.odd": "geometry, composites, text search",
    "types.temporal_edge": "infinity and years that no table holds",
    "public.signal": "Debezium's own",
}
NO_TABLES = re.compile(r"__debezium-heartbeat\..*|.*\.(message|transaction)")

CHANGES = (
    "changes.Mixed_Case", "changes.cascade_c", "changes.cascade_p", "changes.composite",
    "changes.hot", "changes.ident_full", "changes.ident_index", "changes.idi",
    "changes.partitioned_eu", "changes.partitioned_us", "changes.pkchange", "changes.three",
    "changes.toast", "changes.toast_full", "ctl.marker", "evolve.new_name",
)  # fmt: skip
TYPES = (
    "types.arrays", "types.basic", "types.floats", "types.generated", "types.netbits",
    "types.numbers", "types.temporal",
)  # fmt: skip


@dataclass(frozen=True)
class Recording:
    name: str
    file: str
    tables: tuple[str, ...]
    # How many values of the source are compared in each format.
    cells: int
    expected: tuple[Expected, ...]
    state: str = "state.jsonl"
    # Say in the configuration what the columns are.
    columns: bool = False

    @property
    def prefix(self) -> str:
        return f"pg-{self.file}"


def each(table: str, column: str, reason: str, *keys: str) -> tuple[Expected, ...]:
    return tuple(Expected(table, column, reason, (key,)) for key in keys)


NEVER_SENT = (
    *each("types.basic", "c_name", "type name: not sent by streaming", "101", "102", "104"),
    *each("types.generated", "twice", "generated column: not sent by streaming", "1", "101"),
)

RECORDINGS = [
    Recording("json-schema", "json-schema", (*CHANGES, *TYPES), 0, NEVER_SENT),
    Recording("json", "json", (*CHANGES, *TYPES), 0, NEVER_SENT),
    Recording("json-columns", "json", (*CHANGES, *TYPES), 0, NEVER_SENT, columns=True),
    Recording("modes-string", "modes-string", ("ctl.marker", *TYPES), 0, ()),
    Recording(
        "incremental", "incremental", ("public.item", "public.marker"), 0, (),
        state="incremental.state.jsonl",
    ),
]  # fmt: skip


@dataclass
class Landed:
    recording: Recording
    source: dict[str, SourceTable]
    records: dict[str, list[Record]]
    rows: dict[tuple[str, str], list[Row]]
    entries: list[Entry]
    location: Path

    def comparisons(self, kind: str) -> list[Comparison]:
        return [
            compare(self.source[table], self.rows[table, kind]) for table in self.recording.tables
        ]


@pytest.fixture(scope="module")
def replayed(kafka, shared):
    """Puts a recording into Kafka when it is first asked for; its records by topic."""
    done: dict[str, dict[str, list[Record]]] = {}

    def once(file: str) -> dict[str, list[Record]]:
        if file not in done:
            path = shared / "golden" / "postgres" / f"{file}.jsonl.gz"
            counts = topics.replay(kafka, path, wanted=lambda topic: not NO_TABLES.fullmatch(topic))
            done[file] = {topic: topics.read_topic(kafka, topic) for topic in counts}
            assert {topic: len(found) for topic, found in done[file].items()} == counts
        return done[file]

    return once


@pytest.fixture(scope="module", params=RECORDINGS, ids=lambda recording: recording.name)
def landed(request, replayed, kafka, shared, tmp_path_factory) -> Landed:
    recording: Recording = request.param
    records = replayed(recording.file)
    held = {topic.split(".", 1)[1] for topic in records}
    assert held - set(recording.tables) <= LEFT_OUT.keys()
    source = from_state(shared / "golden" / "postgres" / recording.state)
    location = tmp_path_factory.mktemp(recording.name)
    entries = [
        Entry(f"{recording.prefix}.{table}", f"{silver_name(table)}_{kind}", kind)
        for table in recording.tables
        for kind in FORMATS
    ]
    config = tables.config(kafka.lakebed_config(), location, entries, f"recorded-{recording.name}")
    for entry, written in zip(entries, config["tables"], strict=True):
        if recording.columns:
            written["columns"] = columns(source[table_of(entry)])
    program = Lakebed()
    try:
        program.start(config, "run", "--until-caught-up").expect(0, 120)
    finally:
        program.close()
    rows = {(table_of(entry), entry.format): silver(entry, location) for entry in entries}
    return Landed(recording, source, records, rows, entries, location)


def table_of(entry: Entry) -> str:
    return entry.topic.split(".", 1)[1]


def silver(entry: Entry, location: Path) -> list[Row]:
    return tables.FIRST_READER[entry.format](entry.place(location, "silver"))


@pytest.mark.parametrize("kind", FORMATS)
def test_silver_equals_the_recorded_source(landed, kind):
    comparisons = landed.comparisons(kind)
    assert problems(comparisons, list(landed.recording.expected)) == []
    assert sum(comparison.cells for comparison in comparisons) == landed.recording.cells


@pytest.mark.parametrize("kind", FORMATS)
def test_bronze_holds_each_record_once(landed, kind):
    for entry in landed.entries:
        if entry.format == kind:
            rows = tables.bronze_rows(entry, landed.location)
            assert tables.log_problems(landed.records[entry.topic], rows) == []


# What the columns are that schemaless JSON in Debezium's default modes does not tell.

_NAMED = {
    "numeric": {"type": "decimal"}, "money": {"type": "decimal(19,2)"},
    "types.amount": {"type": "decimal(12,3)"}, "real": {"type": "float"},
    "double precision": {"type": "double"}, "bytea": {"type": "binary"}, "date": {"type": "date"},
    "timestamp with time zone": {"type": "timestamptz"}, "bit": {"type": "binary"},
    "bit varying": {"type": "binary"}, "integer": {"type": "int"}, "bigint": {"type": "long"},
    "text": {"type": "text"}, "boolean": {"type": "boolean"}, "uuid": {"type": "text"},
    "jsonb": {"type": "text"}, "types.mood": {"type": "text"},
}  # fmt: skip


def columns(source: SourceTable) -> dict[str, dict[str, str]]:
    found = {name: rule(kind) for name, kind in source.columns}
    return {name: said for name, said in found.items() if said}


def rule(kind: str) -> dict[str, str] | None:
    if kind.endswith("[]"):
        element = rule(kind[:-2])
        return {**element, "type": f"list<{element['type']}>"}
    plain = re.sub(r"\([^)]*\)", "", kind)
    digits = re.search(r"\(([-\d,]+)\)", kind)
    if plain == "numeric" and digits:
        precision, scale = digits[1].split(",")
        # A negative scale is sent as 2048 more than it is.
        return {"type": f"decimal({precision},{int(scale) % 2048})"}
    if plain in ("time without time zone", "timestamp without time zone"):
        count = "millis" if digits and int(digits[1]) <= 3 else "micros"
        return {"type": plain.split()[0], "encoding": count}
    if kind == "bit(1)":
        return None
    return _NAMED.get(plain)


# Without schema and without a word in the configuration.


@pytest.mark.parametrize("landed", RECORDINGS[1:2], ids=["json"], indirect=True)
@pytest.mark.parametrize("kind", FORMATS)
def test_without_schema_values_land_as_the_json_shows_them(landed, kind):
    compared = 0
    for table in landed.recording.tables:
        key = landed.source[table].key
        wanted = last_rows(landed.records[f"{landed.recording.prefix}.{table}"])
        found = {
            json.dumps([row[silver_name(name)] for name in key]): row
            for row in landed.rows[table, kind]
        }
        by_key = {json.dumps([row[name] for name in key]): row for row in wanted}
        assert found.keys() == by_key.keys(), table
        for identity, row in by_key.items():
            for name, value in row.items():
                compared += 1
                stored = found[identity].get(silver_name(name))
                assert is_shown_as(value, stored), (table, name, identity, value, stored)
    assert compared > 0


def is_shown_as(value: object, stored: object) -> bool:
    if isinstance(value, (dict, list)):
        return isinstance(stored, str) and parsed(stored.encode()) == value
    if isinstance(value, Decimal):
        return isinstance(stored, float) and Decimal(repr(stored)) == value
    return stored == value and type(stored) is type(value)


def parsed(text: bytes) -> object:
    return json.loads(text, parse_float=Decimal)


PLACEHOLDERS = (
    "__debezium_unavailable_value",
    "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==",
    ["__debezium_unavailable_value"],
)


def last_rows(records: list[Record]) -> list[dict]:
    """The rows that a topic comes to, by folding its events one after the other as plain JSON."""
    rows: dict[bytes, dict] = {}
    left: dict[bytes, dict] = {}
    for record in sorted(records, key=lambda r: (r.timestamp, r.partition, r.offset)):
        if record.value is None:
            continue
        event = parsed(record.value)
        old = rows.pop(record.key, None)
        if event["op"] == "d":
            if old is not None:
                left[record.key] = old
            continue
        from_key = dict(record.headers).get("__debezium.oldkey")
        base = left.get(from_key) if event["op"] == "c" and from_key else old
        rows[record.key] = {
            name: (base or {}).get(name) if value in PLACEHOLDERS and event["op"] in "cu" else value
            for name, value in event["after"].items()
        }
    return list(rows.values())
