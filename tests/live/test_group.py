"""A consumer group at work: members come, go and die, and the log holds what is no record."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Producer

import records
import tables
from parts import Lakebed, topics
from parts.process import wait_until
from tables import FORMATS, Entry
from workload import InBackground

PARTITIONS = 4


GROUP = "group"
CHANGES = 6_000


@dataclass
class Followed:
    location: Path
    entries: list[Entry]
    changes: int


def rows_of(entry: Entry, location, layer: str) -> list[dict]:
    return tables.FIRST_READER[entry.format](entry.place(location, layer))


def changes(topic: str, numbers: range) -> list:
    """Each key in one partition; every third change is of a key that was there before."""
    made = []
    for number in numbers:
        identity = number - number % 3 if number % 3 == 1 else number
        row = {"id": identity, "v": f"v{number}"}
        made.append(records.record(topic, number, row, partition=identity % PARTITIONS))
    return made


def expected(numbers: range) -> dict[int, str]:
    last = {}
    for number in numbers:
        last[number - number % 3 if number % 3 == 1 else number] = f"v{number}"
    return last


def members_come_go_and_die(kafka, tmp_path_factory) -> Followed:
    """Under load from the first member's start until the last one's work."""
    topic, location = f"{GROUP}.public.t", tmp_path_factory.mktemp("group")
    topics.create_topic(kafka, topic, PARTITIONS)
    entries = [Entry(topic, f"t_{kind}", kind) for kind in FORMATS]
    config = tables.config(
        kafka.lakebed_config(), location, entries, GROUP, batch={"max_age": "300ms"}
    )
    config["kafka"]["properties"] = tables.SHORT_SESSION
    sent = 0

    def load(stopping) -> None:
        nonlocal sent
        while not stopping() or sent < CHANGES:
            topics.produce(kafka, changes(topic, range(sent, sent + 200)))
            sent += 200
            time.sleep(0 if stopping() else 1)

    program = Lakebed()

    def works(member) -> None:
        for entry in entries:
            wait_until(lambda: commits(member, entry), 60, f"a commit to {entry.name}")

    try:
        with InBackground(load):
            first = program.start(config, "run")
            works(first)
            second = program.start(config, "run")
            # It has a share, and writes.
            works(second)
            first.kill9()
            time.sleep(3)
            third = program.start(config, "run")
            works(third)
            second.sigterm()
            second.expect(0, 60)
        tables.wait_committed(kafka, GROUP, third, tables.ends(kafka, [topic]), 60)
        third.sigterm()
        third.expect(0, 60)
    finally:
        program.close()
    return Followed(location, entries, sent)


def commits(member, entry: Entry) -> bool:
    assert member.exit_code is None, member.tail()
    return any(
        "committed batch" in line and f'"silver.{entry.name}"' in line
        for line in member.stderr.splitlines()
    )


BESIDE = members_come_go_and_die


@pytest.mark.parametrize("kind", FORMATS)
def test_members_come_go_and_die(beside, kind):
    followed = beside.result(members_come_go_and_die)
    (entry,) = [entry for entry in followed.entries if entry.format == kind]
    assert followed.changes >= CHANGES
    silver = {row["id"]: row["v"] for row in rows_of(entry, followed.location, "silver")}
    assert silver == expected(range(followed.changes))
    bronze = [
        (row["_kafka_partition"], row["_offset"])
        for row in rows_of(entry, followed.location, "bronze")
    ]
    assert len(bronze) == len(set(bronze)) == followed.changes


@pytest.mark.parametrize("kind", FORMATS)
def test_aborted_transactions_and_markers_are_passed(kafka, lakebed, unique, tmp_path, kind):
    topic = f"{unique}.public.t"
    topics.create_topic(kafka, topic)
    producer = Producer({**kafka.client(), "transactional.id": unique})
    producer.init_transactions()

    def transaction(numbers: range, commits: bool) -> None:
        producer.begin_transaction()
        for number in numbers:
            made = records.record(topic, number, {"id": number, "v": "x"})
            producer.produce(topic, made.value, made.key, 0)
        producer.flush()
        producer.commit_transaction() if commits else producer.abort_transaction()

    transaction(range(10), True)
    transaction(range(10, 15), False)
    entry = Entry(topic, "t", kind)
    config = tables.config(kafka.lakebed_config(), tmp_path, [entry], unique)
    lakebed.start(config, "run", "--until-caught-up").expect(0, 60)

    def stored() -> set[int]:
        shown = lakebed.run(["status", "--output", "json"], config)
        assert shown.returncode == 0, shown.stderr
        status = json.loads(shown.stdout)
        return {place["next"] for table in status["tables"] for place in table["offsets"]}

    # Ten records, a marker, five aborted ones and their marker.
    assert stored() == {17}
    # Nothing but what is aborted: progress without a row.
    transaction(range(15, 20), False)
    lakebed.start(config, "run", "--until-caught-up").expect(0, 60)
    assert stored() == {23}
    assert topics.committed_offsets(kafka, unique)[(topic, 0)] == 23
    transaction(range(20, 25), True)
    lakebed.start(config, "run", "--until-caught-up").expect(0, 60)
    ids = sorted(row["id"] for row in rows_of(entry, tmp_path, "silver"))
    assert ids == [*range(10), *range(20, 25)]
    assert len(rows_of(entry, tmp_path, "bronze")) == 15
