"""What was set aside is listed, and applied after all once the configuration lets it pass: while the
service runs, once, and nowhere behind a newer row."""

import json
import re

import pytest

import records
import tables
from parts import topics
from tables import FORMATS, Entry

LONG = records.PRIVATE * 20


@pytest.mark.parametrize("kind", FORMATS)
def test_a_replay_applies_what_is_not_newer_in_silver(lakebed, kafka, tmp_path, unique, kind):
    topic, letters = f"{unique}.public.t", f"{unique}-letters"
    topics.create_topic(kafka, topic)
    topics.create_topic(kafka, letters)
    changes = [
        ({"id": 1, "v": "a"}, "c"),
        ({"id": 2, "v": LONG}, "c"),
        ({"id": 1, "v": LONG}, "u"),
        ({"id": 1, "v": "newer"}, "u"),
        ({"id": 3, "v": LONG}, "c"),
        ({"id": 3}, "d"),
        ({"id": 4, "v": "b"}, "c"),
        ({"id": 4, "v": LONG}, "u"),
    ]
    produced = [records.record(topic, n, row, op) for n, (row, op) in enumerate(changes)]
    topics.produce(kafka, produced)
    entry = Entry(topic, "t", kind)
    config = tables.config(
        kafka.lakebed_config(), tmp_path, [entry], unique, batch={"max_age": "200ms"},
        bad_records={"dead_letter_topic": letters}, limits={"text_bytes": "100B"},
    )  # fmt: skip
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)

    listed = lakebed.run(["dlq", "list", "t", "--output", "json"], config)
    assert listed.returncode == 0, listed.stderr
    found = [json.loads(line) for line in listed.stdout.splitlines()]
    assert sorted(row["_offset"] for row in found) == [1, 2, 4, 7]
    assert all("limits.text_bytes" in row["_error"] for row in found)
    assert LONG not in listed.stdout + listed.stderr

    still = lakebed.run(["dlq", "replay", "t"], config)
    assert still.returncode == 0 and "4 set aside, 0 applied" in still.stdout, still
    config["limits"] = {"text_bytes": "1MiB"}
    running = lakebed.start(config, "run")
    dry = lakebed.run(["dlq", "replay", "t", "--dry-run"], config)
    assert "4 set aside, 2 would be applied" in dry.stdout, dry
    assert rows(entry, tmp_path) == {1: "newer", 4: "b"}
    replayed = lakebed.run(["dlq", "replay", "silver.t"], config)
    assert replayed.returncode == 0, replayed.stderr
    assert "4 set aside, 2 applied\n2 superseded" in replayed.stdout, replayed
    assert rows(entry, tmp_path) == {1: "newer", 2: LONG, 4: LONG}
    # Neither offsets nor the dead-letter topic have moved, and the service goes on over it.
    places = {(topic, 0): len(changes)}
    assert tables.progress(entry, "silver", tmp_path, places, None) == places
    assert len(topics.read_topic(kafka, letters)) == 4
    more = [records.record(topic, 8, {"id": 2, "v": "last"}, "u")]
    topics.produce(kafka, more)
    tables.wait_committed(kafka, unique, running, tables.ends(kafka, [topic]), 60)
    assert rows(entry, tmp_path) == {1: "newer", 2: "last", 4: LONG}

    before = version(lakebed, config)
    again = lakebed.run(["dlq", "replay", "t"], config)
    assert "4 set aside, 0 applied\n4 superseded" in again.stdout, again
    assert version(lakebed, config) == before
    running.sigterm()
    running.expect(0, 60)
    for text in (running.stderr, replayed.stderr, again.stdout):
        assert records.PRIVATE not in text


def rows(entry: Entry, location) -> dict:
    found = tables.FIRST_READER[entry.format](entry.place(location, "silver"))
    ids = [row["id"] for row in found]
    assert len(ids) == len(set(ids)), ids
    return {row["id"]: row["v"] for row in found}


def version(lakebed, config) -> str:
    shown = lakebed.run(["status", "--output", "json"], config).stdout
    return re.findall(r'"version":\s*(\d+)', shown)
