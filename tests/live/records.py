"""Debezium events made by hand, as PostgreSQL's connector would send them without schemas."""

import json

from parts import Kafka, topics
from parts.topics import Record

# Stands in every value; nothing that Lakebed prints may have it.
PRIVATE = "private-7d1c"


def event(key: dict | None, after: dict | None, op: str = "c", number: int = 0) -> bytes:
    """``number`` orders the events: it is the position in the write-ahead log."""
    body = {
        "before": key if op == "d" else None,
        "after": after,
        "source": {
            "version": "3.7.0.Final", "connector": "postgresql", "name": "made",
            "ts_ms": 1_760_000_000_000 + number, "snapshot": "false", "db": "made",
            "sequence": f'["{1000 + number}","{1001 + number}"]', "schema": "public",
            "table": "t", "txId": 700 + number, "lsn": 1001 + number, "xmin": None,
        },
        "transaction": None,
        "op": op,
        "ts_ms": 1_760_000_000_100 + number,
    }  # fmt: skip
    return text(body)


def record(
    topic: str, number: int, row: dict, op: str = "c", key: str = "id", partition: int = 0
) -> Record:
    identity = {key: row[key]}
    value = event(identity, None if op == "d" else row, op, number)
    return Record(topic, partition, number, None, text(identity), value)


def send(kafka: Kafka, unique: str, start: int, changes: list[tuple[dict, str]]) -> None:
    """``changes``, each a row and its operation, numbered from ``start``, to the topic of a test's
    one table ``t``."""
    topic = f"{unique}.public.t"
    made = [record(topic, n, row, op) for n, (row, op) in enumerate(changes, start)]
    topics.produce(kafka, made)


def text(value: object) -> bytes:
    """Compact, as Connect's JsonConverter writes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
