"""Tables in a real Iceberg REST catalog (Apache Iceberg's own, on disk and on S3): made, committed and
shown as others expect; what others do to them in between stays."""

from pathlib import Path

import pytest
import records
import tables
from parts import topics
from parts.faults import LOST_REPLY, LOST_REQUEST, PASS, Answer, Scripted
from parts.run_dir import part_dir
from readers import with_duckdb, with_pyiceberg
from readers.rows import by_id
from records import send
from tables import Entry


@pytest.fixture(params=["disk", "s3"])
def catalog(request):
    return request.getfixturevalue(f"rest_on_{request.param}")


def config_of(kafka, catalog, unique, **settings):
    topics.create_topic(kafka, f"{unique}.public.t")
    s3 = {"s3": catalog.s3.lakebed_config()} if catalog.s3 else {}
    place = f"{catalog.s3.create_bucket(unique)}/lake" if catalog.s3 else part_dir("lake")
    config = tables.config(
        kafka.lakebed_config(), place, [Entry(f"{unique}.public.t", "t", "iceberg")], unique,
        batch={"max_age": "200ms"}, **s3,
    )  # fmt: skip
    layers = {layer: {"database": f"{unique}_{layer}"} for layer in ("bronze", "silver")}
    config["lake"] |= {"catalog": catalog.lakebed_config() | settings, **layers}
    return config


def test_what_is_missing_in_the_catalog_is_named(lakebed, kafka, rest_on_disk, unique):
    config = config_of(kafka, rest_on_disk, unique)
    checked = lakebed.run(["check"], config)
    assert checked.returncode == 1, checked
    assert f"ok       the REST catalog at {rest_on_disk.uri} answers" in checked.stdout, checked
    missing = f"PROBLEM  there is no namespace `{unique}_silver` in the REST catalog"
    assert missing in checked.stdout, checked
    ran = lakebed.run(["run", "--until-caught-up"], config)
    assert ran.returncode != 0 and "create_databases: true" in ran.stderr, ran

    config["lake"]["catalog"]["uri"] += "/elsewhere"
    checked = lakebed.run(["check"], config)
    assert checked.returncode == 1 and "cannot be used" in checked.stdout, checked
    assert "Traceback" not in checked.stdout + checked.stderr


def test_a_rest_catalog_goes_on_over_what_others_commit(lakebed, kafka, catalog, unique, request):
    config = config_of(kafka, catalog, unique, create_databases=True)
    rows = [({"id": n, "v": f"first {n}"}, "c") for n in range(6)]
    send(kafka, unique, 0, [*rows, ({"id": 5}, "d"), ({"id": 0, "v": "second"}, "u")])
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)

    theirs = with_pyiceberg.rest_catalog(catalog)
    silver = theirs.load_table((f"{unique}_silver", "t"))
    expected = {0: ("second",), **{n: (f"first {n}",) for n in range(1, 5)}}
    assert by_id(with_pyiceberg.rows(silver), "v") == expected
    assert silver.location() == f"{place_of(config)}/{unique}_silver/t"
    # Ours are numbered by their column, whatever a catalog would number them.
    listed = silver.schema().find_field("_cdc_incomplete")
    assert listed.field_type.element_id == 10_000 + 100 * listed.field_id
    # Theirs: a row rewritten away, a property, a tag.
    silver.delete("id = 3")
    silver.transaction().set_properties(theirs="kept").commit_transaction()
    silver.manage_snapshots().create_tag(silver.current_snapshot().snapshot_id, "audit").commit()

    more = [({"id": 1, "v": "third", "w": 1.5}, "u"), ({"id": 3, "v": "back"}, "c")]
    send(kafka, unique, 10, [*more, ({"id": 4}, "d")])
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)

    expected = {0: ("second", None), 1: ("third", 1.5), 2: ("first 2", None), 3: ("back", None)}
    silver = theirs.load_table((f"{unique}_silver", "t"))
    assert by_id(with_pyiceberg.rows(silver), "v", "w") == expected
    assert silver.properties["theirs"] == "kept"
    assert "audit" in silver.metadata.refs
    told = catalog.table(f"{unique}_silver", "t")
    found = with_duckdb.iceberg(told["metadata-location"], catalog.s3)
    assert by_id(found, "v", "w") == expected
    bronze = theirs.load_table((f"{unique}_bronze", "t"))
    assert sorted(row["_offset"] for row in with_pyiceberg.rows(bronze)) == list(range(11))
    if catalog.s3 is None:
        spark = request.getfixturevalue("spark")
        assert by_id(spark.rest(catalog.uri, f"{unique}_silver.t"), "v", "w") == expected

    shown = lakebed.run(["show", f"{unique}_silver.t", "--count"], config)
    assert shown.stdout.strip() == "4", shown
    old = lakebed.run(["show", f"{unique}_silver.t", "--count", "--version", "1"], config)
    assert old.returncode == 0 and old.stdout.strip() in ("5", "6"), old
    status = lakebed.run(["status"], config)
    assert status.returncode == 0 and f"{unique}_silver.t" in status.stdout, status
    checked = lakebed.run(["check", "--all-tables"], config)
    assert checked.returncode == 0, checked


def test_partitioned_and_rewritten_tables_are_taken_as_they_are(lakebed, kafka, rest_on_disk, unique):
    """The catalog takes our partition specs and snapshots that replace files, and others read them."""
    config = config_of(kafka, rest_on_disk, unique, create_databases=True)
    config["tables"][0]["partition_by"] = ["bucket(4, id)", "truncate(1, v)"]
    rewritten = {"name": "rewritten", "mode": "copy-on-write"}
    config["tables"].append({"topic": f"{unique}.public.t", "format": "iceberg", **rewritten})
    send(kafka, unique, 0, [({"id": n, "v": f"{n} first"}, "c") for n in range(20)])
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)
    moved = [({"id": n, "v": f"{(n + 1) % 10} moved"}, "u") for n in range(10)]
    send(kafka, unique, 30, moved)
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)

    theirs = with_pyiceberg.rest_catalog(rest_on_disk)
    silver = theirs.load_table((f"{unique}_silver", "t"))
    transforms = [str(field.transform) for field in silver.spec().fields]
    assert transforms == ["bucket[4]", "truncate[1]"]
    expected = {n: (f"{(n + 1) % 10} moved" if n < 10 else f"{n} first",) for n in range(20)}
    assert by_id(with_pyiceberg.rows(silver), "v") == expected
    rewritten = theirs.load_table((f"{unique}_silver", "rewritten"))
    assert by_id(with_pyiceberg.rows(rewritten), "v") == expected
    assert not any(task.delete_files for task in rewritten.scan().plan_files())
    one = silver.scan(row_filter="id = 7").to_arrow().to_pylist()
    assert [row["v"] for row in one] == ["8 moved"]
    bronze = theirs.load_table((f"{unique}_bronze", "t"))
    assert [str(field.transform) for field in bronze.spec().fields] == ["identity"]


def test_lost_and_late_answers_write_nothing_twice(lakebed, kafka, rest_on_disk, unique):
    config = config_of(kafka, rest_on_disk, unique, create_databases=True)
    config["batch"] = {"max_rows": 2}
    send(kafka, unique, 0, [({"id": 0, "v": "0"}, "c")])
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)
    faults = [
        PASS, LOST_REPLY, Answer(503, after_effect=True), Answer(503),
        PASS, LOST_REQUEST, Answer(409, after_effect=True), Answer(429),
    ]  # fmt: skip
    send(kafka, unique, 1, [({"id": n % 5, "v": f"{n}"}, "u") for n in range(1, 33)])
    theirs = with_pyiceberg.rest_catalog(rest_on_disk)
    theirs.load_table((f"{unique}_silver", "t")).transaction().set_properties(
        theirs="kept"
    ).commit_transaction()
    with Scripted(rest_on_disk.uri, "/tables/t", faults) as proxy:
        config["lake"]["catalog"]["uri"] = proxy.endpoint
        lakebed.start(config, "run", "--until-caught-up").expect(0, 120)
        config["lake"]["catalog"]["uri"] = rest_on_disk.uri
    assert set(proxy.met) == set(faults), proxy.met

    silver = theirs.load_table((f"{unique}_silver", "t"))
    expected = {n % 5: (f"{n}",) for n in range(33)}
    assert by_id(with_pyiceberg.rows(silver), "v") == expected
    assert silver.properties["theirs"] == "kept"
    bronze = with_pyiceberg.rows(theirs.load_table((f"{unique}_bronze", "t")))
    assert sorted(row["_offset"] for row in bronze) == list(range(33))
    commits = [s.summary["lakebed.commit-id"] for s in silver.metadata.snapshots]
    assert len(set(commits)) == len(commits), "each commit is in once"
    # What looks at all lakes of the run later looks at this one through the catalog itself.
    assert lakebed.run(["check", "--all-tables"], config).returncode == 0
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)


def test_the_catalog_takes_away_what_commits_leave_behind(lakebed, kafka, rest_on_disk, unique):
    config = config_of(kafka, rest_on_disk, unique, create_databases=True)
    config["batch"] = {"max_rows": 1}
    config["lake"]["bronze"] = False
    send(kafka, unique, 0, [({"id": n % 7, "v": f"{n}"}, "u") for n in range(115)])
    lakebed.start(config, "run", "--until-caught-up").expect(0, 120)

    told = rest_on_disk.table(f"{unique}_silver", "t")["metadata"]
    assert told["last-sequence-number"] >= 115
    # They go ten at a time.
    assert 100 <= len(told["snapshots"]) < 110
    assert len(told["metadata-log"]) == 100
    folder = Path(config["lake"]["location"]) / f"{unique}_silver" / "t" / "metadata"
    files = list(folder.glob("*.metadata.json"))
    assert len(files) <= 102, "the newest, those it names, and the one before"
    silver = with_pyiceberg.rest_catalog(rest_on_disk).load_table((f"{unique}_silver", "t"))
    expected = {n % 7: (f"{n}",) for n in range(115)}
    assert by_id(with_pyiceberg.rows(silver), "v") == expected


def place_of(config) -> str:
    location = config["lake"]["location"]
    return location if location.startswith("s3://") else f"file://{location}"


def test_two_writers_and_a_foreign_one_share_a_table(lakebed, kafka, rest_on_disk, unique):
    """The group's two members own a partition each; pyiceberg sets properties all the while."""
    config = config_of(kafka, rest_on_disk, unique, create_databases=True)
    topic = f"{unique}.public.two"
    topics.create_topic(kafka, topic, partitions=2)
    config["tables"] = [{"topic": topic, "name": "two", "format": "iceberg"}]
    made = [
        records.record(topic, n, {"id": n, "v": f"{n}"}, "c", partition=n % 2) for n in range(40)
    ]
    topics.produce(kafka, made[:20])
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)
    running = [lakebed.start(config, "run") for _ in range(2)]
    theirs = with_pyiceberg.rest_catalog(rest_on_disk)
    silver = theirs.load_table((f"{unique}_silver", "two"))
    for n in range(20, 40):
        topics.produce(kafka, [made[n]])
        silver.transaction().set_properties(theirs=str(n)).commit_transaction()
    wanted = tables.ends(kafka, [topic])
    tables.wait_committed(kafka, unique, running[0], wanted, 90)
    for process in running:
        process.sigterm()
        process.expect(0, 60)

    silver = theirs.load_table((f"{unique}_silver", "two"))
    assert by_id(with_pyiceberg.rows(silver), "v") == {n: (f"{n}",) for n in range(40)}
    assert silver.properties["theirs"] == "39"
    bronze = with_pyiceberg.rows(theirs.load_table((f"{unique}_bronze", "two")))
    offsets = sorted((row["_kafka_partition"], row["_offset"]) for row in bronze)
    assert offsets == sorted((p, n) for p in range(2) for n in range(20))
