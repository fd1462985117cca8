"""``lakebed demo``: what it prints works, and what it makes every reader reads the same."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

import readers
import tables
from parts import Lakebed
from readers import with_duckdb
from tables import FORMATS, LAYERS

ROWS = 20_000
READERS = [("iceberg", name) for name in readers.ICEBERG] + [
    ("delta", name) for name in readers.DELTA
]


@dataclass
class Demo:
    folder: Path
    stdout: str
    # (layer, name) to the table's folder.
    places: dict[tuple[str, str], Path]
    rows: dict[tuple[str, str], list[dict]]


@pytest.fixture(scope="module")
def demos(tmp_path_factory) -> dict[str, Demo]:
    """Both formats, side by side."""
    program = Lakebed()
    folders = {kind: tmp_path_factory.mktemp(f"demo-{kind}") for kind in FORMATS}

    def run(kind: str):
        command = ["demo", "--dir", str(folders[kind]), "--format", kind, "--rows", str(ROWS)]
        return program.run(command, seconds=240)

    with ThreadPoolExecutor() as pool:
        results = dict(zip(FORMATS, pool.map(run, FORMATS), strict=True))
    made = {}
    for kind, result in results.items():
        folder = folders[kind]
        assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
        mark = "metadata/version-hint.text" if kind == "iceberg" else "_delta_log/*0.json"
        places = {}
        for found in sorted(folder.rglob(mark)):
            place = found.parents[1]
            places[place.parent.name, place.name] = place
        read = tables.FIRST_READER[kind]
        rows = {key: tables.in_order(read(place)) for key, place in places.items()}
        made[kind] = Demo(folder, result.stdout, places, rows)
    return made


@pytest.mark.parametrize("kind", FORMATS)
def test_demo_makes_both_layers_and_says_where(demos, kind):
    demo = demos[kind]
    assert {layer for layer, _ in demo.places} == set(LAYERS)
    for (layer, name), place in demo.places.items():
        assert len(demo.rows[layer, name]) > 0
        if layer == "silver":
            assert str(place) in demo.stdout
    events = sum(len(rows) for (layer, _), rows in demo.rows.items() if layer == "bronze")
    assert events >= ROWS


@pytest.mark.parametrize("kind", FORMATS)
def test_the_printed_duckdb_query_works(demos, kind):
    """Each printed scan, as it stands, gives the rows of a table."""
    demo = demos[kind]
    scans = re.findall(rf"{kind}_scan\('([^']+)'\)", demo.stdout)
    assert scans
    for scan in scans:
        with with_duckdb.connection() as duck:
            (count,) = duck.execute(f"SELECT count(*) FROM {kind}_scan('{scan}')").fetchone()
        (rows,) = [
            demo.rows[key] for key, place in demo.places.items() if scan.startswith(str(place))
        ]
        assert count == len(rows)


@pytest.mark.parametrize(("kind", "name"), READERS)
def test_every_reader_reads_the_same(demos, kind, name):
    demo = demos[kind]
    read = {"iceberg": readers.ICEBERG, "delta": readers.DELTA}[kind][name]
    for key, place in demo.places.items():
        tables.same(tables.in_order(read(place)), demo.rows[key], f"{key}", name == "chdb")


def test_spark_reads_the_same(demos, spark):
    for kind, demo in demos.items():
        found = spark.read_all([(kind, place) for place in demo.places.values()])
        for key, rows in zip(demo.places, found, strict=True):
            tables.same(tables.in_order(rows), demo.rows[key], f"{kind} {key}")
