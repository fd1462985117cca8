"""Records that nobody can understand: the table halts before them, or they go to a dead-letter
topic; the others go on, and nothing is lost either way."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import records
import tables
from parts import Kafka, Lakebed, topics
from parts.lakebed import Running
from parts.topics import Record
from tables import FORMATS, LAYERS, Entry

PREFIX = "bad"
DEAD_LETTERS = "bad-dead-letters"
GROUP = "bad"
HEADERS = (("mine", b"\xff\x00"),)
KEY = records.text({"id": 9})


def whole(number: int = 1) -> bytes:
    row = {"id": 9, "v": records.PRIVATE}
    return records.event({"id": 9}, row, number=number)


def with_schema(value: object) -> bytes:
    """An inline schema says that ``v`` is a 32-bit integer."""
    row = {
        "type": "struct", "optional": True, "name": "bad.Value",
        "fields": [
            {"type": "int32", "optional": False, "field": "id"},
            {"type": "int32", "optional": True, "field": "v"},
        ],
    }  # fmt: skip
    schema = {
        "type": "struct", "optional": False, "name": "bad.Envelope", "version": 2,
        "fields": [
            {**row, "field": "before"},
            {**row, "field": "after"},
            {"type": "struct", "optional": False, "field": "source", "fields": [
                {"type": "string", "optional": False, "field": "connector"},
                {"type": "int64", "optional": False, "field": "ts_ms"},
                {"type": "int64", "optional": True, "field": "lsn"},
            ]},
            {"type": "string", "optional": False, "field": "op"},
            {"type": "int64", "optional": True, "field": "ts_ms"},
        ],
    }  # fmt: skip
    payload = {
        "before": None, "after": {"id": 9, "v": value},
        "source": {"connector": "postgresql", "ts_ms": 1_760_000_000_000, "lsn": 5},
        "op": "c", "ts_ms": 1_760_000_000_001,
    }  # fmt: skip
    return records.text({"schema": schema, "payload": payload})


# Key and value of the record in the middle.
CASES: dict[str, tuple[bytes, bytes]] = {
    "truncated": (KEY, whole()[:-40]),
    "not_json": (KEY, b"\x00\x00\x00\x00\x05" + whole()),
    "no_row": (KEY, records.text({**json.loads(whole()), "after": "no row"})),
    "wrong_type": (KEY, with_schema(records.PRIVATE)),
    "absent_key": (records.text({"other": 1}), whole()),
    "broken_key": (b'{"id":', whole()),
    "unknown_op": (KEY, whole().replace(b'"op":"c"', b'"op":"q"')),
    "no_op": (KEY, whole().replace(b',"op":"c"', b"")),
    "large": (KEY, whole()[:-2] + b" " * 10_000_000),
    "deep": (
        KEY,
        whole().replace(b'"v":', b'"deep":' + b"[" * 100_000 + b"]" * 100_000 + b',"v":'),
    ),
    "deep_and_open": (KEY, b'{"after":' * 200_000),
    "not_utf8": (KEY, whole().replace(records.PRIVATE.encode(), b"\xff\xfe\x80")),
    "empty": (KEY, b""),
}

GOOD = "bad.public.good"
LARGE_TEXT = "ä🎉x" * 1_500_000  # above 10 MB


@dataclass
class Story:
    """One lake in two chapters: first with ``halt``, then with a dead-letter topic."""

    location: Path
    kafka: Kafka
    entries: list[Entry]
    outputs: list[Running] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)

    def bad(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.topic != GOOD]

    def good(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.topic == GOOD]

    def ids(self, entry: Entry, layer: str) -> list[int]:
        place = entry.place(self.location, layer)
        rows = tables.FIRST_READER[entry.format](place)
        return sorted(row["id" if layer == "silver" else "_offset"] for row in rows)


@pytest.fixture(scope="module")
def story(kafka, tmp_path_factory) -> Story:
    produced = []
    for name, (key, value) in CASES.items():
        topic = f"{PREFIX}.public.{name}"
        topics.create_topic(kafka, topic)
        first = records.record(topic, 0, {"id": 1, "v": records.PRIVATE})
        last = records.record(topic, 2, {"id": 2, "v": records.PRIVATE})
        if name == "wrong_type":
            first = Record(topic, 0, 0, None, records.text({"id": 9}), with_schema(1))
            last = Record(topic, 0, 2, None, records.text({"id": 9}), with_schema(2))
        produced += [first, Record(topic, 0, 1, None, key, value, HEADERS), last]
    topics.create_topic(kafka, GOOD)
    produced += [records.record(GOOD, n, {"id": n, "v": records.PRIVATE}) for n in range(100)]
    produced.append(records.record(GOOD, 100, {"id": 100, "v": LARGE_TEXT}))
    topics.create_topic(kafka, DEAD_LETTERS)
    topics.produce(kafka, produced)
    entries = [
        Entry(topic, f"{topic.rsplit('.', 1)[1]}_{kind}", kind)
        for topic in (*(f"{PREFIX}.public.{name}" for name in CASES), GOOD)
        for kind in FORMATS
    ]
    return Story(tmp_path_factory.mktemp("bad"), kafka, entries)


@pytest.fixture(scope="module")
def halted(story) -> Story:
    """Until the good table has gone on while the others stand; then told to stop."""
    config = tables.config(
        story.kafka.lakebed_config(), story.location, story.entries, GROUP,
        batch={"max_age": "500ms"}, bad_records="halt",
    )  # fmt: skip
    program = Lakebed()
    try:
        running = program.start(config, "run")
        story.outputs.append(running)
        wanted = tables.ends(story.kafka, [GOOD])
        tables.wait_committed(story.kafka, GROUP, running, wanted, 120)
        for entry in story.bad():
            running.wait_for_output(f"{entry.topic}-0@1", 60)
        more = [records.record(GOOD, n, {"id": n, "v": records.PRIVATE}) for n in range(101, 120)]
        topics.produce(story.kafka, more)
        wanted = tables.ends(story.kafka, [GOOD])
        tables.wait_committed(story.kafka, GROUP, running, wanted, 60)
        running.sigterm()
        running.expect(3, 60)
        # Neither is it forgotten by a restart, nor does it take more harm.
        again = program.start(config, "run", "--until-caught-up")
        story.outputs.append(again)
        again.expect(3, 120)
    finally:
        program.close()
    story.halted_rows = {
        (entry, layer): story.ids(entry, layer) for entry in story.entries for layer in LAYERS
    }
    story.halted_at = {
        (entry, layer): tables.progress(entry, layer, story.location, {(entry.topic, 0): 0}, None)
        for entry in story.bad()
        for layer in LAYERS
    }
    return story


@pytest.fixture(scope="module")
def passed(halted) -> Story:
    """The same lake, corrected: bad records have a place to go."""
    config = tables.config(
        halted.kafka.lakebed_config(), halted.location, halted.entries, GROUP,
        batch={"max_age": "500ms"}, bad_records={"dead_letter_topic": DEAD_LETTERS},
    )  # fmt: skip
    program = Lakebed()
    try:
        running = program.start(config, "run", "--until-caught-up")
        halted.outputs.append(running)
        running.expect(0, 120)
    finally:
        program.close()
    return halted


# What each reason must speak of, so that its reader knows what to look for.
REASONS = {
    "truncated": "json", "not_json": "json", "no_row": "after", "wrong_type": "v",
    "absent_key": "key", "broken_key": "key", "unknown_op": "op", "no_op": "op", "large": "json",
    "deep": "nest|deep|recursion", "deep_and_open": "nest|deep|recursion",
    "not_utf8": "utf-8|unicode", "empty": "empty",
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_halt_names_the_record_and_the_reason(halted, name):
    place = f"{PREFIX}.public.{name}-0@1"
    for running in halted.outputs[:2]:
        lines = [line.lower() for line in running.stderr.splitlines() if place in line]
        for kind in FORMATS:
            about = [line for line in lines if f"{name}_{kind}" in line]
            assert about, f"no line names {place} and the table {name}_{kind}"
            words = REASONS[name].split("|")
            assert any(word in line.replace(place, "") for line in about for word in words), about


@pytest.mark.parametrize("kind", FORMATS)
def test_a_halted_table_stands_before_the_record_in_both_layers(halted, kind):
    for entry in halted.bad():
        if entry.format == kind:
            first = 9 if "wrong_type" in entry.name else 1
            assert halted.halted_rows[entry, "silver"] == [first], entry
            assert halted.halted_rows[entry, "bronze"] == [0], entry
            for layer in LAYERS:
                assert halted.halted_at[entry, layer] == {(entry.topic, 0): 1}, (entry, layer)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_other_tables_go_on(halted, kind):
    (entry,) = [entry for entry in halted.good() if entry.format == kind]
    for layer in LAYERS:
        assert halted.halted_rows[entry, layer] == list(range(120))
    rows = tables.FIRST_READER[kind](entry.place(halted.location, "silver"))
    assert [row["v"] for row in rows if row["id"] == 100] == [LARGE_TEXT]


@pytest.mark.parametrize("kind", FORMATS)
def test_with_a_dead_letter_topic_the_table_goes_on(passed, kind):
    for entry in passed.bad():
        if entry.format == kind:
            ids = [9] if "wrong_type" in entry.name else [1, 2]
            assert passed.ids(entry, "silver") == ids, entry
            assert passed.ids(entry, "bronze") == [0, 1, 2], entry


@pytest.mark.parametrize("kind", FORMATS)
def test_bronze_keeps_the_bytes_and_the_reason(passed, kind):
    for entry in passed.bad():
        if entry.format != kind:
            continue
        key, value = CASES[entry.topic.rsplit(".", 1)[1]]
        rows = tables.in_order(tables.FIRST_READER[kind](entry.place(passed.location, "bronze")))
        before, bad, after = rows
        assert before["_error"] is None and after["_error"] is None, entry
        assert (bad["_key"], bad["_value"]) == (key, value), entry
        assert bad["_error"] and records.PRIVATE not in bad["_error"], entry
        assert bad["headers"] == [{"key": name, "value": data} for name, data in HEADERS], entry


def test_dead_letters_are_the_records_with_connects_headers(passed):
    letters: dict[str, list[Record]] = {}
    for letter in topics.read_topic(passed.kafka, DEAD_LETTERS):
        headers = dict(letter.headers)
        assert headers["__connect.errors.partition"] == b"0"
        assert headers["__connect.errors.offset"] == b"1"
        for name in ("stage", "class.name", "exception.class.name", "exception.message"):
            assert headers[f"__connect.errors.{name}"], name
        assert records.PRIVATE.encode() not in headers["__connect.errors.exception.message"]
        letters.setdefault(headers["__connect.errors.topic"].decode(), []).append(letter)
    assert letters.keys() == {f"{PREFIX}.public.{name}" for name in CASES}
    for topic, found in letters.items():
        key, value = CASES[topic.rsplit(".", 1)[1]]
        # Each of the two tables sends its own.
        assert len(found) == 2, topic
        for letter in found:
            assert (letter.key, letter.value, letter.headers[:1]) == (key, value, HEADERS), topic


def test_no_value_of_a_row_is_printed(passed):
    for running in passed.outputs:
        assert records.PRIVATE not in running.stdout + running.stderr


def test_a_record_without_key_is_in_bronze_only(lakebed, kafka, tmp_path, unique):
    """A table without key looks like this; it is no mistake of the record's."""
    topic = f"{unique}.public.t"
    topics.create_topic(kafka, topic)
    without = Record(topic, 0, 1, None, None, whole())
    produced = [records.record(topic, 0, {"id": 1, "v": "x"}), without]
    topics.produce(kafka, produced)
    entries = [Entry(topic, kind, kind) for kind in FORMATS]
    config = tables.config(kafka.lakebed_config(), tmp_path, entries, unique)
    lakebed.start(config, "run", "--until-caught-up").expect(0, 60)
    for entry in entries:
        silver, bronze = (
            tables.FIRST_READER[entry.format](entry.place(tmp_path, layer)) for layer in LAYERS
        )
        assert [row["id"] for row in silver] == [1]
        offsets = {row["_offset"]: (row["_error"], row["after"]) for row in bronze}
        assert offsets.keys() == {0, 1} and offsets[1][0] is None
        assert json.loads(offsets[1][1]) == {"id": 9, "v": records.PRIVATE}
