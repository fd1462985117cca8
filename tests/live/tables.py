"""What Lakebed is told to make, where it lies, and how far it says it has come."""

import json
from dataclasses import dataclass
from pathlib import Path

import deltalake.exceptions

import readers
from parts import S3, Kafka, topics
from parts.process import wait_until
from parts.topics import Record
from readers import places, with_deltalake
from readers.compare import Comparison, bronze_problems, compare
from readers.rows import Row
from readers.source import SourceTable

FORMATS = ("iceberg", "delta")
LAYERS = ("silver", "bronze")

# The one that tests compare with the source where nothing else is asked for; it reads S3 too.
FIRST_READER = {"iceberg": readers.ICEBERG["pyiceberg"], "delta": readers.DELTA["deltalake"]}

# Of a group whose members get killed: what a dead one held is waited for that long.
SHORT_SESSION = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 500}

Progress = dict[tuple[str, int], int]


@dataclass(frozen=True)
class Entry:
    """One entry of ``tables``: a topic that becomes a bronze and a silver table."""

    topic: str
    name: str
    format: str

    def place(self, location: str | Path, layer: str) -> str:
        return f"{location}/{layer}/{self.name}"


def config(
    kafka: dict, location: str | Path, entries: list[Entry], group: str, **more: object
) -> dict:
    """``kafka`` from the part; ``more`` adds to or replaces the top level, but for ``s3``."""
    lake = {"location": str(location), "format": "iceberg"}
    if "s3" in more:
        lake["s3"] = more.pop("s3")
    return {
        "kafka": {
            **kafka,
            "group_id": group,
            "properties": {"session.timeout.ms": 6000},
        },
        "lake": lake,
        "tables": [
            {"topic": entry.topic, "name": entry.name, "format": entry.format} for entry in entries
        ],
        "http": False,
        **more,
    }


def ends(kafka: Kafka, names: list[str]) -> Progress:
    """The end of every partition now."""
    return {
        (topic, partition): offset
        for topic in names
        for partition, offset in topics.end_offsets(kafka, topic).items()
    }


def wait_committed(kafka: Kafka, group: str, running, wanted: Progress, seconds: float) -> None:
    """Until the group has committed all of ``wanted``: the tables have it then."""

    def reached() -> bool:
        assert running.exit_code is None, f"lakebed ended early\n{running.tail()}"
        committed = topics.committed_offsets(kafka, group)
        return all(committed.get(place, 0) >= end for place, end in wanted.items() if end > 0)

    try:
        wait_until(reached, seconds, "lakebed caught up", every=0.2)
    except TimeoutError as error:
        committed = topics.committed_offsets(kafka, group)
        behind = {
            p: (committed.get(p), end) for p, end in wanted.items() if committed.get(p) != end
        }
        raise TimeoutError(f"{error}: (committed, end) is {behind}\n{running.tail()}") from None


# What the tables themselves have stored (the format is a promise to other programs as well).


def progress(
    entry: Entry, layer: str, location: str | Path, known: Progress, s3: S3 | None
) -> Progress:
    """Next offsets in the newest version of a table, hint or no hint; empty without a table."""
    place = entry.place(location, layer)
    if entry.format == "iceberg":
        return _iceberg_progress(place, s3)
    return _delta_progress(place, known, s3)


def _iceberg_progress(place: str, s3: S3 | None) -> Progress:
    found = _metadata_files(place, s3)
    if not found:
        return {}
    metadata = json.loads(_read(found[max(found)], s3))
    current = metadata.get("current-snapshot-id", -1)
    for snapshot in metadata.get("snapshots", []):
        if snapshot["snapshot-id"] == current:
            checkpoint = json.loads(snapshot["summary"]["lakebed.checkpoint"])
            assert checkpoint["v"] == 1
            return {
                (topic, int(partition)): offset
                for topic, state in checkpoint["topics"].items()
                for partition, (offset, *_) in state["next"].items()
            }
    return {}


def _metadata_files(place: str, s3: S3 | None) -> dict[int, str]:
    names = [name for name in files(f"{place}/metadata", s3) if name.endswith(".metadata.json")]
    by_version = {int(Path(name).name.split(".")[0].removeprefix("v")): name for name in names}
    assert len(by_version) == len(names), f"{place}: two metadata files of one version"
    return by_version


def _delta_progress(place: str, known: Progress, s3: S3 | None) -> Progress:
    if not any(name.endswith(".json") for name in files(f"{place}/_delta_log", s3)):
        return {}
    try:
        table = with_deltalake.table(place, s3)
    except deltalake.exceptions.TableNotFoundError:
        return {}
    found = {
        (topic, partition): table.transaction_version(f"lakebed/1/lakebed/{topic}/{partition}")
        for topic, partition in known
    }
    return {where: offset for where, offset in found.items() if offset is not None}


def files(folder: str, s3: S3 | None) -> list[str]:
    """All below a folder of S3; of a local one only its own."""
    if not places.is_s3(folder):
        path = Path(places.local(folder))
        return [str(entry) for entry in path.iterdir()] if path.is_dir() else []
    bucket, prefix = folder.removeprefix("s3://").split("/", 1)
    pages = s3.client().get_paginator("list_objects_v2")
    return [
        f"s3://{bucket}/{entry['Key']}"
        for page in pages.paginate(Bucket=bucket, Prefix=f"{prefix}/")
        for entry in page.get("Contents", [])
    ]


def _read(file: str, s3: S3 | None) -> bytes:
    if not places.is_s3(file):
        return Path(places.local(file)).read_bytes()
    bucket, key = file.removeprefix("s3://").split("/", 1)
    return s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()


# Comparing.


def silver_comparison(
    source: SourceTable, entry: Entry, location: str | Path, s3: S3 | None = None
) -> Comparison:
    place = entry.place(location, "silver")
    rows = FIRST_READER[entry.format](place, s3) if s3 else FIRST_READER[entry.format](place)
    return compare(source, rows)


def bronze_rows(entry: Entry, location: str | Path, s3: S3 | None = None) -> list[Row]:
    place = entry.place(location, "bronze")
    return FIRST_READER[entry.format](place, s3) if s3 else FIRST_READER[entry.format](place)


def log_problems(records: list[Record], bronze: list[Row]) -> list[str]:
    """``bronze_problems``, and what each record said, byte for byte as Connect wrote it."""
    found = bronze_problems(records, bronze)
    values = {(r.topic, r.partition, r.offset): r.value for r in records}
    for row in bronze:
        place = (row["_topic"], row["_kafka_partition"], row["_offset"])
        value = values.get(place)
        if row["_error"] is not None:
            found.append(f"{place}: _error is {row['_error']!r}")
        if value is None:
            parts = {}
        else:
            event = json.loads(value)
            parts = event.get("payload", event)
        if row["_op"] != parts.get("op"):
            found.append(f"{place}: _op is {row['_op']!r}, the record has {parts.get('op')!r}")
        for column in ("before", "after", "source"):
            text = row[column]
            if (text is None) != (parts.get(column) is None):
                found.append(f"{place}: {column} is null on one side only")
            elif text is not None and f'"{column}":{text}'.encode() not in value:
                found.append(f"{place}: {column} is not the record's own text")
    return found


def in_order(rows: list[Row]) -> list[Row]:
    """By the place in Kafka that a row came from, which no two rows of a table share."""
    silver = ("_cdc_topic", "_cdc_partition", "_cdc_offset")
    bronze = ("_topic", "_kafka_partition", "_offset")
    names = silver if rows and "_cdc_topic" in rows[0] else bronze
    return sorted(rows, key=lambda row: tuple(row[name] for name in names))


def same(
    rows: list[Row], wanted: list[Row], what: str, null_arrays_are_empty: bool = False
) -> None:
    """As values and as types; the first row that is not the same is shown."""
    assert len(rows) == len(wanted) > 0, what
    arrays = {n for r in (*rows, *wanted) for n, v in r.items() if isinstance(v, list)}
    for row, other in zip(rows, wanted, strict=True):
        if null_arrays_are_empty:
            other = {n: [] if n in arrays and v is None else v for n, v in other.items()}
        different = {n: (row.get(n), v) for n, v in other.items() if row.get(n) != v}
        assert row == other, (what, different)
        assert [type(v) for v in row.values()] == [type(other[n]) for n in row], what
