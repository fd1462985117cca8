"""Topics and records: made, replayed from recordings, read back, and the offsets around them."""

import base64
import gzip
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import NewTopic, OffsetSpec

from parts.kafka import Kafka

_SECONDS = 30
_COORDINATOR = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    timestamp: int | None  # ms
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def create_topic(kafka: Kafka, name: str, partitions: int = 1, **settings: str) -> None:
    """Settings as in ``cleanup__policy="compact"``: two underscores stand for a dot."""
    config = {key.replace("__", "."): value for key, value in settings.items()}
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
    kafka.admin.create_topics([topic])[name].result(_SECONDS)
    # The broker answers before every metadata cache knows: a producer would have to retry.
    deadline = time.monotonic() + _SECONDS
    while len(_partitions(kafka, name)) != partitions:
        if time.monotonic() > deadline:
            raise TimeoutError(f"topic {name} not visible after {_SECONDS} s")
        time.sleep(0.05)


def delete_topic(kafka: Kafka, name: str) -> None:
    kafka.admin.delete_topics([name])[name].result(_SECONDS)


def topics(kafka: Kafka) -> dict[str, int]:
    """All topics with the number of their partitions."""
    found = kafka.admin.list_topics(timeout=_SECONDS).topics
    return {name: len(topic.partitions) for name, topic in found.items()}


def produce(kafka: Kafka, records: Iterable[Record], **settings: object) -> int:
    """Sends the records in this order to the partitions they name; their offsets are ignored.

    Returns the number of records, all acknowledged. A record that is refused raises.
    """
    failures: list[str] = []

    def delivered(error, message) -> None:
        if error is not None:
            failures.append(f"{message.topic()}-{message.partition()}: {error}")

    producer = Producer(
        {
            **kafka.client(),
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.max.bytes": 16_000_000,
            "message.timeout.ms": 60_000,
            **settings,
        }
    )
    count = 0
    for record in records:
        _send(producer, record, delivered)
        count += 1
    left = producer.flush(120)
    if failures or left:
        raise KafkaException(f"{left} not sent, {len(failures)} refused, first: {failures[:3]}")
    return count


def _send(producer: Producer, record: Record, delivered: Callable) -> None:
    while True:
        try:
            producer.produce(
                record.topic,
                value=record.value,
                key=record.key,
                partition=record.partition,
                # 0 lets the client take the present.
                timestamp=record.timestamp or 0,
                headers=list(record.headers) or None,
                on_delivery=delivered,
            )
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.1)


def recording(path: Path) -> Iterator[Record]:
    """The records of a recorded ``*.jsonl.gz``, in the order they were read."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            timed = entry["timestamp_type"] != "none"
            yield Record(
                topic=entry["topic"],
                partition=entry["partition"],
                offset=entry["offset"],
                timestamp=entry["timestamp"] if timed else None,
                key=_bytes(entry["key"]),
                value=_bytes(entry["value"]),
                headers=tuple((name, _bytes(value)) for name, value in entry["headers"]),
            )


def replay(
    kafka: Kafka,
    path: Path,
    wanted: Callable[[str], bool] = lambda topic: True,
    rename: Callable[[str], str] = lambda topic: topic,
) -> dict[str, int]:
    """Puts a recording into Kafka: same partitions, order, timestamps, bytes and headers.

    Makes the topics with as many partitions as the recording shows. Returns how many records each
    topic got, by its new name.
    """
    records = [record for record in recording(path) if wanted(record.topic)]
    counts: dict[str, int] = {}
    partitions: dict[str, int] = {}
    moved = []
    for record in records:
        topic = rename(record.topic)
        counts[topic] = counts.get(topic, 0) + 1
        partitions[topic] = max(partitions.get(topic, 0), record.partition + 1)
        moved.append(Record(topic, *_rest(record)))
    for topic, number in partitions.items():
        create_topic(kafka, topic, number)
    produce(kafka, moved)
    return counts


def _rest(record: Record) -> tuple:
    return (
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        record.headers,
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def read_topic(
    kafka: Kafka, topic: str, read_committed: bool = True, seconds: float = 60
) -> list[Record]:
    """Every record of the topic up to its end at this moment, by partition and offset."""
    consumer = Consumer(
        {
            **kafka.client(),
            "group.id": "lakebed-tests-reader",  # required by the client, never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed" if read_committed else "read_uncommitted",
            "fetch.message.max.bytes": 16_777_216,
            "fetch.wait.max.ms": 50,
        }
    )
    found: list[Record] = []
    open_partitions = set(_partitions(kafka, topic))
    deadline = time.monotonic() + seconds
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in open_partitions])
        while open_partitions:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: partitions {open_partitions} not read in {seconds} s")
            message = consumer.poll(0.5)
            if message is None:
                continue
            if message.error() is None:
                found.append(_record(message))
            elif message.error().name() == "_PARTITION_EOF":
                open_partitions.discard(message.partition())
            else:
                raise KafkaException(message.error())
    finally:
        consumer.close()
    found.sort(key=lambda record: (record.partition, record.offset))
    return found


def _record(message) -> Record:
    kind, timestamp = message.timestamp()
    return Record(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        timestamp=None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
        key=message.key(),
        value=message.value(),
        headers=tuple(message.headers() or ()),
    )


def end_offsets(kafka: Kafka, topic: str, read_committed: bool = False) -> dict[int, int]:
    """The next offset of each partition; with ``read_committed`` the last stable one."""
    level = IsolationLevel.READ_COMMITTED if read_committed else IsolationLevel.READ_UNCOMMITTED
    wanted = {
        TopicPartition(topic, number): OffsetSpec.latest() for number in _partitions(kafka, topic)
    }
    found = kafka.admin.list_offsets(wanted, isolation_level=level)
    return {place.partition: answer.result(_SECONDS).offset for place, answer in found.items()}


def committed_offsets(kafka: Kafka, group: str) -> dict[tuple[str, int], int]:
    """What the consumer group has committed: (topic, partition) to next offset."""
    return {
        (place.topic, place.partition): place.offset
        for place in _group_offsets(kafka, group)
        if place.offset >= 0
    }


def _group_offsets(kafka: Kafka, group: str) -> list[TopicPartition]:
    """Asked by a consumer that never joins. An admin client has no group, and librdkafka follows a
    null pointer there when the broker answers that it does not coordinate this group yet, as a
    young broker does."""
    asked = [
        TopicPartition(topic, number)
        for topic, count in topics(kafka).items()
        if not topic.startswith("__")
        for number in range(count)
    ]
    consumer = Consumer({**kafka.client(), "group.id": group, "enable.auto.commit": False})
    deadline = time.monotonic() + _SECONDS
    try:
        while True:
            try:
                return consumer.committed(asked, _SECONDS) if asked else []
            except KafkaException as error:
                # Asks again while the broker still finds or reads the group's partition.
                if error.args[0].code() not in _COORDINATOR or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)
    finally:
        consumer.close()


def _partitions(kafka: Kafka, topic: str) -> list[int]:
    found = kafka.admin.list_topics(topic, timeout=_SECONDS).topics[topic]
    return sorted(found.partitions) if found.error is None else []
