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
from readers.compare import ROW, Comparison, Expected, compare, problems, silver_name
from readers.rows import Row
from readers.source import SourceTable, from_state
from tables import FORMATS, Entry

# Tables that no recording of this test brings into silver, and why.
LEFT_OUT = {
    "changes.nopk": "no key: append only, bronze",
    "changes.nopk_full": "no key: bronze",
    "changes.partitioned": "a message of the partitioned table itself; its leaves have the rows",
    "evolve.t": "without schema: one block of columns cannot say what a column was at each time",
    "evolve.old_name": "renamed at the source, which knows it by its new name only",
    "public.signal": "Debezium's own",
}
NO_TABLES = re.compile(r"__debezium-heartbeat\..*|.*\.(message|transaction)")

CHANGES = (
    "changes.Mixed Case", "changes.cascade_c", "changes.cascade_p", "changes.composite",
    "changes.hot", "changes.ident_full", "changes.ident_index", "changes.idi",
    "changes.partitioned_eu", "changes.partitioned_us", "changes.pkchange", "changes.three",
    "changes.three_trunc",
    "changes.toast", "changes.toast_full", "changes.trunc", "changes.trunc_child", "ctl.marker", "evolve.new_name",
)  # fmt: skip
TYPES = (
    "types.arrays", "types.basic", "types.ext", "types.floats", "types.generated", "types.netbits",
    "types.numbers", "types.odd", "types.temporal", "types.temporal_edge",
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
    # Where it is not Debezium's own.
    placeholder: str | None = None

    @property
    def topics(self) -> dict[str, str]:
        """Topic to table. Debezium puts `_` in the place of what a topic's name may not have."""
        return {f"pg-{self.file}.{table.replace(' ', '_')}": table for table in self.tables}


def each(table: str, column: str, reason: str, *keys: str) -> tuple[Expected, ...]:
    return tuple(Expected(table, column, reason, (key,)) for key in keys)


# What the events themselves lack or say otherwise: nobody can read the source from them.
OF_THE_EVENTS = (
    *each("types.odd", "comp", "composite: the field is missing", "1", "101"),
    *each("types.odd", "arr2", "an array of arrays is sent as one of nulls", "1", "101"),
    *each("types.odd", "mr", "multirange: the field is missing", "1", "101"),
    *each("types.temporal_edge", "d", "the snapshot loses the era", "3", "4"),
    *each("types.generated", "twice", "generated column: not sent by streaming", "1", "101"),
    *each("types.temporal", "d", "a day of 1582 that the snapshot moves by ten", "6"),
)
OF_DEFAULT_MODES = (
    *OF_THE_EVENTS,
    *each("types.basic", "c_name", "type name: not sent by streaming", "5", "101", "102", "105"),
    *each("types.temporal", "iv", "microseconds that saturate", "4", "104"),
    *each("types.temporal_edge", "ts", "microseconds that overflow", "7", "107"),
    *each("changes.toast", "big", "the source has the placeholder's own text", "1"),
    *each("changes.ident_index", ROW, "identity by an index: no key in the delete", "2", "22"),
)
# An ALTER tells nothing of rows that it changes: they keep what was sent, in the column it was for.
# What columns are at the end; those of before stay beside them.
NAMES = {"evolve.t": {"c": "c__2", "d": "d__2", "f": "f__2"}}
OF_ALTERED_ROWS = (
    Expected("evolve.t", "c", "its scale changed"),
    Expected("evolve.t", "d", "dropped and added again with another type"),
    Expected("evolve.t", "e", "renamed"),
    Expected("evolve.t", "e_renamed", "renamed"),
    Expected("evolve.t", "f", "its type changed"),
    Expected("evolve.t", "h", "added NOT NULL with a DEFAULT"),
)
OF_STRING_MODES = (
    *OF_THE_EVENTS,
    *each("types.temporal", "t", "24:00 becomes 00:00 in ISO text", "4", "104"),
    *each("types.temporal", "t0", "24:00 becomes 00:00 in ISO text", "4", "104"),
    *each("types.temporal", "t3", "24:00 becomes 00:00 in ISO text", "4", "104"),
)


def every(table: str, columns: str, reason: str) -> tuple[Expected, ...]:
    return tuple(Expected(table, column, reason) for column in columns.split())


# What schemaless JSON shows as something else, until the configuration says what it is.
_BASE64 = "a decimal in base64"
_COUNT = "a count of milliseconds or microseconds"
OF_NO_SCHEMA = (
    Expected("changes.Mixed Case", "Order Total", _BASE64),
    *every("types.generated", "n", _BASE64),
    *every("types.numbers", "n", "a struct of scale and value"),
    *every("types.numbers", "n_10_2 n_38_10 n_5_0 n_60_20 n_3_neg2 n_3_5", _BASE64),
    *every("types.numbers", "c_money c_amount", _BASE64),
    *every("types.arrays", "a_num", _BASE64),
    *every("types.arrays", "a_ts", _COUNT),
    *every("types.temporal", "t t0 t3 ts ts0 ts3", _COUNT),
    *every("types.temporal_edge", "d ts", "a count of days or microseconds, beyond all years"),
    # Numbers and texts: two columns, the second under the name of the first with a suffix.
    *every("types.floats", "f4 f8 f4__2 f8__2", "NaN and infinities are texts among the numbers"),
)

RECORDINGS = [
    Recording(
        "json-schema", "json-schema", (*CHANGES, *TYPES, "evolve.t"), 1128,
        (*OF_DEFAULT_MODES, *OF_ALTERED_ROWS),
    ),
    Recording("json", "json", (*CHANGES, *TYPES), 1065, (*OF_DEFAULT_MODES, *OF_NO_SCHEMA)),
    Recording("json-columns", "json", (*CHANGES, *TYPES), 1065, OF_DEFAULT_MODES, columns=True),
    Recording(
        "modes-string", "modes-string", ("ctl.marker", *TYPES), 770, OF_STRING_MODES,
        placeholder="N/A",
    ),
    Recording(
        "incremental", "incremental", ("public.item", "public.marker"), 8936, (),
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
            compare(self.source[table], self.rows[table, kind], NAMES.get(table))
            for table in self.recording.tables
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
    others = records.keys() - recording.topics.keys()
    assert {topic.split(".", 1)[1] for topic in others} <= LEFT_OUT.keys()
    source = from_state(shared / "golden" / "postgres" / recording.state)
    location = tmp_path_factory.mktemp(recording.name)
    entries = [
        Entry(topic, f"{silver_name(table)}_{kind}", kind)
        for topic, table in recording.topics.items()
        for kind in FORMATS
    ]
    more = {}
    if recording.placeholder is not None:
        more["records"] = {"unavailable_value_placeholder": recording.placeholder}
    group = f"recorded-{recording.name}"
    config = tables.config(kafka.lakebed_config(), location, entries, group, **more)
    for entry, written in zip(entries, config["tables"], strict=True):
        if recording.topics[entry.topic].endswith("_edge"):
            # Infinity and years that no table holds.
            written["out_of_range"] = "text"
        if recording.columns:
            written["columns"] = columns(source[recording.topics[entry.topic]])
    program = Lakebed()
    try:
        program.start(config, "run", "--until-caught-up").expect(0, 120)
    finally:
        program.close()
    rows = {
        (recording.topics[entry.topic], entry.format): silver(entry, location) for entry in entries
    }
    return Landed(recording, source, records, rows, entries, location)


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

# Values that the last rows of all topics have, absent columns not counted.
SHOWN = 1060


@pytest.mark.parametrize("landed", RECORDINGS[1:2], ids=["json"], indirect=True)
@pytest.mark.parametrize("kind", FORMATS)
def test_without_schema_values_land_as_the_json_shows_them(landed, kind):
    compared = 0
    for topic, table in landed.recording.topics.items():
        key = landed.source[table].key
        wanted = last_rows(landed.records[topic])
        found = {
            json.dumps([row[silver_name(name)] for name in key]): row
            for row in landed.rows[table, kind]
        }
        by_key = {json.dumps([row[name] for name in key]): row for row in wanted}
        assert found.keys() == by_key.keys(), table
        for identity, row in by_key.items():
            for name, value in row.items():
                compared += 1
                stored = shown(found[identity], silver_name(name))
                assert is_shown_as(value, stored), (table, name, identity, value, stored)
    assert compared == SHOWN


def shown(row: Row, name: str) -> object:
    """The value in the column of this name, or in the one made when the field changed its type."""
    columns = [name, f"{name}__2"]
    values = [row[column] for column in columns if row.get(column) is not None]
    assert len(values) <= 1, (name, values)
    return values[0] if values else None


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
    """The rows that a topic comes to, by folding its events as plain JSON, in the source's order."""
    rows: dict[bytes, dict] = {}
    left: dict[bytes, dict] = {}
    events = [(record, parsed(record.value)) for record in records if record.value is not None]

    def order(told: tuple[Record, dict]) -> tuple:
        record, event = told
        # The halves of a key change stand at one place.
        return event["source"]["lsn"], event["op"] != "d", record.partition, record.offset

    for record, event in sorted(events, key=order):
        if event["op"] == "t":
            rows.clear()
            continue
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
