"""Batches so large that a file has several row groups, and deletes that reach into each."""

import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet
import pytest

import readers
import records
import tables
import workload
from parts import Lakebed, topics
from tables import FORMATS, Entry

ROWS = 150_000
DELETED = UPDATED = 300
TOPIC = "large.public.t"
READERS = [("iceberg", name) for name in readers.ICEBERG]
READERS += [("delta", name) for name in readers.DELTA]


@dataclass
class Large:
    places: dict[str, str]
    wanted: dict[int, str]


@pytest.fixture(scope="module")
def large(kafka, tmp_path_factory) -> Large:
    """One batch of inserts, then one that changes rows all over it."""
    rng = random.Random(workload.seed())
    chosen = rng.sample(range(ROWS), DELETED + UPDATED)
    gone, changed = set(chosen[:DELETED]), set(chosen[DELETED:])
    inserts = [records.record(TOPIC, n, {"id": n, "v": f"v{n}"}) for n in range(ROWS)]
    later = [records.record(TOPIC, ROWS + n, {"id": n}, "d") for n in sorted(gone)]
    later += [records.record(TOPIC, ROWS + n, {"id": n, "v": "new"}, "u") for n in sorted(changed)]
    location = tmp_path_factory.mktemp("large")
    entries = [Entry(TOPIC, kind, kind) for kind in FORMATS]
    batch = {"max_age": "60s", "max_rows": ROWS, "max_bytes": "400MiB"}
    config = tables.config(kafka.lakebed_config(), location, entries, "large", batch=batch)
    config["lake"]["bronze"] = False
    topics.create_topic(kafka, TOPIC)
    program = Lakebed()
    try:
        for part in (inserts, later):
            topics.produce(kafka, part)
            program.start(config, "run", "--until-caught-up").expect(0, 120)
    finally:
        program.close()
    places = {entry.format: entry.place(location, "silver") for entry in entries}
    wanted = {n: "new" if n in changed else f"v{n}" for n in range(ROWS) if n not in gone}
    return Large(places, wanted)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_has_several_row_groups(large, kind):
    """Otherwise the readers below are not asked what they are meant to be asked."""
    files = Path(large.places[kind]).rglob("*.parquet")
    groups = [pyarrow.parquet.ParquetFile(file).num_row_groups for file in files]
    assert max(groups) >= 2


@pytest.mark.parametrize(("kind", "name"), READERS)
def test_every_reader_sees_the_deletes_in_each_row_group(large, kind, name):
    read = {"iceberg": readers.ICEBERG, "delta": readers.DELTA}[kind][name]
    rows = read(large.places[kind])
    assert len(rows) == len(large.wanted)
    assert {row["id"]: row["v"] for row in rows} == large.wanted


def test_spark_sees_the_deletes_in_each_row_group(large, spark):
    for rows in spark.read_all(list(large.places.items())):
        assert len(rows) == len(large.wanted)
        assert {row["id"]: row["v"] for row in rows} == large.wanted
