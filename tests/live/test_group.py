"""A consumer group at work: members come, go and die, and the log holds what is no record."""

import json
import threading
import time

import pytest
from confluent_kafka import Producer

import records
import tables
from parts import topics
from tables import FORMATS, Entry

PARTITIONS = 4


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


@pytest.mark.parametrize("kind", FORMATS)
def test_members_come_go_and_die(kafka, lakebed, unique, tmp_path, kind):
    topic = f"{unique}.public.t"
    topics.create_topic(kafka, topic, PARTITIONS)
    entry = Entry(topic, "t", kind)
    config = tables.config(
        kafka.lakebed_config(), tmp_path, [entry], unique, batch={"max_age": "300ms"}
    )
    total = 6_000

    def load() -> None:
        for start in range(0, total, 200):
            topics.produce(kafka, changes(topic, range(start, start + 200)))
            time.sleep(1)

    loading = threading.Thread(target=load)
    loading.start()
    first = lakebed.start(config, "run")
    first.wait_for_output("committed batch", 40)
    second = lakebed.start(config, "run")
    # It has a share, and writes.
    second.wait_for_output("committed batch", 40)
    first.kill9()
    time.sleep(3)
    third = lakebed.start(config, "run")
    third.wait_for_output("committed batch", 60)
    second.sigterm()
    second.expect(0, 60)
    loading.join()
    wanted = tables.ends(kafka, [topic])
    tables.wait_committed(kafka, unique, third, wanted, 60)
    third.sigterm()
    third.expect(0, 60)

    silver = {row["id"]: row["v"] for row in rows_of(entry, tmp_path, "silver")}
    assert silver == expected(range(total))
    bronze = [
        (row["_kafka_partition"], row["_offset"]) for row in rows_of(entry, tmp_path, "bronze")
    ]
    assert len(bronze) == len(set(bronze)) == total


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
