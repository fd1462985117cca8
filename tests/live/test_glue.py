"""Tables in Glue and S3 (ministack, through the real SDKs), in both modes: made, committed and shown as
others expect; what others do to them in between stays."""

import tables
from parts import topics
from readers import with_deltalake, with_duckdb, with_pyiceberg
from readers.rows import by_id
from records import send
from tables import Entry

# The same rows in both modes.
NAMES = {"t": "merge-on-read", "rewritten": "copy-on-write"}


def config_of(kafka, s3, unique, kind, **catalog):
    bucket = s3.create_bucket(unique)
    topics.create_topic(kafka, f"{unique}.public.t")
    config = tables.config(
        kafka.lakebed_config(), f"{bucket}/lake", [Entry(f"{unique}.public.t", "t", kind)], unique,
        s3=s3.lakebed_config(), batch={"max_age": "200ms"},
    )  # fmt: skip
    layers = {layer: {"database": f"{unique}_{layer}"} for layer in ("bronze", "silver")}
    catalog = {"type": "glue", "endpoint": s3.endpoint, **catalog}
    config["lake"] |= {"catalog": catalog, **layers}
    return config


def in_both_modes(config):
    (first,) = config["tables"]
    rewritten = {**first, "name": "rewritten", "mode": "copy-on-write", "layers": {"bronze": False}}
    config["tables"] = [first, rewritten]
    return config


def entry(s3, unique, layer, name="t"):
    return s3.client("glue").get_table(DatabaseName=f"{unique}_{layer}", Name=name)["Table"]


def test_a_missing_database_is_named_and_made_on_request(lakebed, kafka, s3, unique):
    config = config_of(kafka, s3, unique, "iceberg")
    send(kafka, unique, 0, [({"id": 1, "v": "a"}, "c")])
    checked = lakebed.run(["check"], config)
    assert checked.returncode == 1, checked
    for layer in ("bronze", "silver"):
        assert f"PROBLEM  there is no Glue database `{unique}_{layer}`" in checked.stdout, checked
    ran = lakebed.run(["run", "--until-caught-up"], config)
    assert ran.returncode != 0 and "create_databases: true" in ran.stderr, ran

    config["lake"]["catalog"]["create_databases"] = True
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)
    checked = lakebed.run(["check"], config)
    assert checked.returncode == 0, checked
    assert f"table `{unique}_silver.t`: version 1, 1 rows" in checked.stdout, checked
    shown = lakebed.run(["show", f"{unique}_silver.t", "--count"], config)
    assert shown.stdout.strip() == "1", shown


def test_iceberg_goes_on_over_what_others_commit(lakebed, kafka, s3, unique):
    config = in_both_modes(config_of(kafka, s3, unique, "iceberg", create_databases=True))
    rows = [({"id": n, "v": f"first {n}"}, "c") for n in range(6)]
    send(kafka, unique, 0, [*rows, ({"id": 5}, "d"), ({"id": 0, "v": "second"}, "u")])
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)

    catalog = with_pyiceberg.glue_catalog(s3)
    expected = {0: ("second",), **{n: (f"first {n}",) for n in range(1, 5)}}
    for name in NAMES:
        silver = catalog.load_table((f"{unique}_silver", name))
        assert by_id(with_pyiceberg.rows(silver), "v") == expected, name
        file = entry(s3, unique, "silver", name)["Parameters"]["metadata_location"]
        assert by_id(with_duckdb.iceberg(file, s3), "v") == expected, name
        # Theirs: a row rewritten away, a property of the table, a parameter of the entry.
        silver.delete("id = 3")
        silver.transaction().set_properties(theirs="kept").commit_transaction()
        touched = entry(s3, unique, "silver", name)
        assert touched["Parameters"]["metadata_location"] != file
        known = ("Name", "TableType", "Parameters", "StorageDescriptor")
        touched["Parameters"]["use_iceberg_statistics"] = "true"
        s3.client("glue").update_table(
            DatabaseName=f"{unique}_silver", TableInput={key: touched[key] for key in known}
        )

    more = [({"id": 1, "v": "third", "w": 1.5}, "u"), ({"id": 3, "v": "back"}, "c")]
    send(kafka, unique, 10, [*more, ({"id": 4}, "d")])
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)

    expected = {0: ("second", None), 1: ("third", 1.5), 2: ("first 2", None), 3: ("back", None)}
    for name, mode in NAMES.items():
        silver = catalog.load_table((f"{unique}_silver", name))
        assert by_id(with_pyiceberg.rows(silver), "v", "w") == expected, name
        deletes = [file for task in silver.scan().plan_files() for file in task.delete_files]
        assert bool(deletes) == (mode == "merge-on-read"), deletes
        assert silver.properties["theirs"] == "kept"
        last = entry(s3, unique, "silver", name)
        assert last["Parameters"]["use_iceberg_statistics"] == "true"
        assert last["Parameters"]["previous_metadata_location"] != ""
        file = last["Parameters"]["metadata_location"]
        assert by_id(with_duckdb.iceberg(file, s3), "v", "w") == expected, name
        shown = [column["Name"] for column in last["StorageDescriptor"]["Columns"]]
        assert shown == [field.name for field in silver.schema().fields]
    bronze = catalog.load_table((f"{unique}_bronze", "t"))
    assert sorted(row["_offset"] for row in with_pyiceberg.rows(bronze)) == list(range(11))


def test_delta_is_shown_with_the_columns_of_its_log(lakebed, kafka, s3, unique):
    config = in_both_modes(config_of(kafka, s3, unique, "delta", create_databases=True))
    send(kafka, unique, 0, [({"id": n, "v": f"first {n}"}, "c") for n in range(4)])
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)
    send(kafka, unique, 10, [({"id": 1, "v": "second", "w": 1.5}, "u"), ({"id": 2}, "d")])
    lakebed.start(config, "run", "--until-caught-up").expect(0, 90)

    for name, mode in NAMES.items():
        shown = entry(s3, unique, "silver", name)
        place = shown["StorageDescriptor"]["Location"].rstrip("/")
        assert place == f"{config['lake']['location']}/{unique}_silver/{name}"
        assert shown["StorageDescriptor"]["SerdeInfo"]["Parameters"]["path"] == f"{place}/"
        assert shown["Parameters"]["spark.sql.sources.provider"] == "delta"
        assert shown["Parameters"]["table_type"] == "DELTA"
        expected = {0: ("first 0", None), 1: ("second", 1.5), 3: ("first 3", None)}
        assert by_id(with_duckdb.delta(place, s3), "v", "w") == expected
        table = with_deltalake.table(place, s3)
        features = table.protocol().reader_features
        assert features == (["deletionVectors"] if mode == "merge-on-read" else None)
        is_like_its_log(shown, table)


def is_like_its_log(shown, table):
    hive = {"long": "bigint", "double": "double", "string": "string"}
    log = [(field.name, getattr(field.type, "type", "array")) for field in table.schema().fields]
    glue = [(column["Name"], column["Type"]) for column in shown["StorageDescriptor"]["Columns"]]
    assert [name for name, _ in glue] == [name for name, _ in log]
    for (name, told), (_, stored) in zip(glue, log, strict=True):
        assert told == hive.get(stored, "array<string>"), (name, told, stored)
