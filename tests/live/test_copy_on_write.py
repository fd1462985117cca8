"""One topic in both modes and both formats: the same rows for every reader, and in copy-on-write no
delete file and no deletion vector, so that readers which know neither read it, too."""

import random
from dataclasses import dataclass
from pathlib import Path

import deltalake.exceptions
import pytest

import readers
import records
import tables
import workload
from parts import Lakebed, topics
from readers import with_deltalake, with_pyiceberg
from tables import FORMATS, Entry

TOPIC = "modes.public.t"
ROWS = 6_000
ROUNDS = 4
CHANGES = 900
MODES = ("copy-on-write", "merge-on-read")
TABLES = [(mode, kind) for mode in MODES for kind in FORMATS]
READERS = [("iceberg", name) for name in readers.ICEBERG]
READERS += [("delta", name) for name in readers.DELTA]


@dataclass
class Both:
    location: Path
    wanted: dict[int, str]
    config: dict

    def place(self, mode: str, kind: str) -> str:
        return f"{self.location}/silver/{name(mode, kind)}"


def name(mode: str, kind: str) -> str:
    return f"{mode.replace('-', '_')}_{kind}"


@pytest.fixture(scope="module")
def both(kafka, tmp_path_factory) -> Both:
    """Inserts, and rounds of updates, deletes and inserts, the program started anew for each."""
    rng = random.Random(workload.seed())
    wanted: dict[int, str] = {}
    offset = 0

    def change(rows: dict[int, str | None]) -> list:
        nonlocal offset
        made = []
        for key, value in rows.items():
            op = "d" if value is None else "u" if key in wanted else "c"
            made.append(records.record(TOPIC, offset, {"id": key, "v": value}, op))
            offset += 1
            if value is None:
                wanted.pop(key, None)
            else:
                wanted[key] = value
        return made

    location = tmp_path_factory.mktemp("modes")
    entries = [Entry(TOPIC, name(mode, kind), kind) for mode, kind in TABLES]
    batch = {"max_age": "60s", "max_rows": 700}
    config = tables.config(kafka.lakebed_config(), location, entries, "modes", batch=batch)
    for entry, (mode, _) in zip(config["tables"], TABLES, strict=True):
        # The slower cadence of copy-on-write is its default; here it is to commit as often.
        entry.update(mode=mode, batch=batch)
    topics.create_topic(kafka, TOPIC)
    program = Lakebed()
    try:
        topics.produce(kafka, change({n: f"v{n}" for n in range(ROWS)}))
        program.start(config, "run", "--until-caught-up").expect(0, 120)
        for turn in range(ROUNDS):
            keys = rng.sample(range(ROWS + turn * 100), CHANGES)
            rows = {key: None if rng.random() < 0.3 else f"{turn}-{key}" for key in keys}
            # A delete of a key without a row would be no event of a source.
            rows = {k: v for k, v in rows.items() if v is not None or k in wanted}
            topics.produce(kafka, change(rows))
            program.start(config, "run", "--until-caught-up").expect(0, 120)
    finally:
        program.close()
    return Both(location, wanted, config)


def check(rows: list[dict], wanted: dict[int, str]) -> None:
    assert len(rows) == len(wanted)
    assert {row["id"]: row["v"] for row in rows} == wanted


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "reader"), READERS)
def test_every_reader_sees_the_rows(both, mode, kind, reader):
    read = {"iceberg": readers.ICEBERG, "delta": readers.DELTA}[kind][reader]
    check(read(both.place(mode, kind)), both.wanted)


def test_spark_sees_the_rows(both, spark):
    places = [(kind, both.place(mode, kind)) for mode, kind in TABLES]
    for rows in spark.read_all(places):
        check(rows, both.wanted)


def test_iceberg_has_no_delete_files_when_files_are_rewritten(both):
    def deletes(mode: str) -> int:
        table = with_pyiceberg.table(both.place(mode, "iceberg"))
        summary = table.current_snapshot().summary
        files = table.inspect.delete_files().num_rows
        assert int(summary["total-delete-files"]) == files
        data = table.inspect.data_files()
        assert int(summary["total-data-files"]) == data.num_rows
        assert int(summary["total-records"]) == sum(data["record_count"].to_pylist())
        assert int(summary["total-files-size"]) >= sum(data["file_size_in_bytes"].to_pylist())
        return files

    assert deletes("copy-on-write") == 0
    assert deletes("merge-on-read") > 0
    place = both.place("copy-on-write", "iceberg")
    rows = sum(task.file.record_count for task in with_pyiceberg.table(place).scan().plan_files())
    assert rows == len(both.wanted), "no file holds a row that is not in the table"


def test_delta_asks_for_no_deletion_vectors_when_files_are_rewritten(both):
    rewritten = with_deltalake.table(both.place("copy-on-write", "delta"))
    assert rewritten.protocol().reader_features is None
    table = rewritten.to_pyarrow_table()
    read = dict(zip(table["id"].to_pylist(), table["v"].to_pylist(), strict=True))
    assert read == both.wanted and table.num_rows == len(both.wanted)
    rows = sum(rewritten.get_add_actions(flatten=True)["num_records"].to_pylist())
    assert rows == len(both.wanted)

    marked = with_deltalake.table(both.place("merge-on-read", "delta"))
    assert marked.protocol().reader_features == ["deletionVectors"]
    with pytest.raises(deltalake.exceptions.DeltaProtocolError, match="deletionVectors"):
        marked.to_pyarrow_table()


def test_check_knows_the_readers(lakebed, both):
    config = {**both.config, "lake": {**both.config["lake"], "readers": ["deltalake", "spark"]}}
    entries = [entry for entry in config["tables"] if entry["mode"] == "merge-on-read"]
    refused = lakebed.run(["validate"], {**config, "tables": entries})
    assert refused.returncode == 2, refused
    assert "deletion vectors of Delta, which `deltalake` does not read" in refused.stderr
    assert "copy-on-write" in refused.stderr

    # By the readers alone: the same tables, and what is in the way of the one that was marked.
    config["tables"] = [{**entry} for entry in config["tables"]]
    for entry in config["tables"]:
        del entry["mode"]
    told = lakebed.run(["validate"], config)
    assert told.returncode == 0, told
    assert "(delta): copy-on-write, because deletion vectors of Delta are not read by deltalake" in (
        told.stdout
    )
    assert "(iceberg): merge-on-read, because position deletes of Iceberg are read by spark" in (
        told.stdout
    )
    fine = lakebed.run(["check", "--table", f"silver.{name('copy-on-write', 'delta')}"], config)
    assert fine.returncode == 0, fine
    marked = f"silver.{name('merge-on-read', 'delta')}"
    found = lakebed.run(["check", "--table", marked], config)
    assert found.returncode == 1 and "a deletion vector, which deltalake does not read" in (
        found.stdout
    )
