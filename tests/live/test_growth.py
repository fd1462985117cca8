"""A topic gets more partitions while two members read it and one of them dies."""

import random
import threading
import time

from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions

import records
import tables
from parts import topics
from tables import FORMATS, Entry

BEFORE, AFTER = 3, 9
KEYS = 3_000
# Of the producers: they notice the rise by then.
AGE_MS = 3_000


class Source:
    """Rows that change, told by a producer that finds each key's partition as Kafka Connect does."""

    def __init__(self, kafka, topic: str, seed: int) -> None:
        self._topic = topic
        self._random = random.Random(seed)
        self._producer = Producer(
            {
                **kafka.client(),
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "topic.metadata.refresh.interval.ms": AGE_MS,
            }
        )
        self.rows: dict[int, str] = {}
        self.partitions: dict[int, set[int]] = {}
        self._number = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Source":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()
        assert self._producer.flush(60) == 0

    def _run(self) -> None:
        while not self._stop.is_set():
            for _ in range(20):
                self._change()
            self._producer.poll(0)
            time.sleep(0.02)

    def _change(self) -> None:
        key = self._random.randrange(KEYS)
        self._number += 1
        row = None if key in self.rows and self._random.random() < 0.2 else f"v{self._number}"
        image = {"id": key, "v": row or self.rows[key]}
        made = records.record(self._topic, self._number, image, op="u" if row else "d")

        def delivered(error, message) -> None:
            assert error is None, error
            self.partitions.setdefault(key, set()).add(message.partition())

        self._producer.produce(self._topic, made.value, made.key, on_delivery=delivered)
        if row:
            self.rows[key] = row
        else:
            del self.rows[key]


def test_keys_move_to_added_partitions_under_load(kafka, lakebed, unique, tmp_path):
    topic = f"{unique}.public.t"
    topics.create_topic(kafka, topic, BEFORE)
    entries = [Entry(topic, f"t_{kind}", kind) for kind in FORMATS]
    config = tables.config(
        {**kafka.lakebed_config(), "producer_metadata_age": f"{AGE_MS + 1_000}ms"},
        tmp_path,
        entries,
        unique,
        batch={"max_age": "500ms"},
    )
    config["kafka"]["properties"]["topic.metadata.refresh.interval.ms"] = 1_000
    with Source(kafka, topic, seed=5) as source:
        first = lakebed.start(config, "run")
        first.wait_for_output("committed batch", 40)
        second = lakebed.start(config, "run")
        second.wait_for_output("committed batch", 40)
        grown = kafka.admin.create_partitions([NewPartitions(topic, AFTER)])
        grown[topic].result(30)
        # Whoever is given what was added knows that it waits.
        first.wait_for_output("an added partition waits", 60)
        first.kill9()
        second.wait_for_output("an added partition is read from now on", 60)
        third = lakebed.start(config, "run")
        third.wait_for_output("committed batch", 60)
    wanted = tables.ends(kafka, [topic])
    assert len(wanted) == AFTER and all(wanted.values()), wanted
    tables.wait_committed(kafka, unique, third, wanted, 90)
    for member in (second, third):
        member.sigterm()
        member.expect(0, 60)

    moved = [key for key, partitions in source.partitions.items() if len(partitions) > 1]
    assert len(moved) > KEYS / 4, len(moved)
    for entry in entries:
        read = tables.FIRST_READER[entry.format](entry.place(tmp_path, "silver"))
        assert len(read) == len(source.rows), entry
        assert {row["id"]: row["v"] for row in read} == source.rows, entry
