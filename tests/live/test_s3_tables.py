"""Tables in a table bucket of S3 Tables: its catalog chooses where they lie and looks after them."""

import json
from pathlib import Path

import tables
from parts import topics
from parts.faults import LOST_REPLY, LOST_REQUEST, Answer
from parts.s3_tables import TableBucket
from readers import with_pyiceberg
from readers.rows import by_id
from records import send
from tables import Entry

TESTS = Path(__file__).parents[1]


def config_of(kafka, bucket, unique):
    """What is Lakebed's own beside the tables lies in a bucket like any other."""
    topics.create_topic(kafka, f"{unique}.public.t")
    place = f"{bucket.s3.create_bucket(f'{unique}beside')}/lake"
    config = tables.config(
        kafka.lakebed_config(), place, [Entry(f"{unique}.public.t", "t", "iceberg")], unique,
        batch={"max_rows": 3}, s3=bucket.s3.lakebed_config(),
    )  # fmt: skip
    layers = {layer: {"database": f"{unique}_{layer}"} for layer in ("bronze", "silver")}
    config["lake"] |= layers
    reach(config, bucket, bucket.endpoint)
    return config


def reach(config, bucket, endpoint):
    config["lake"]["catalog"] = bucket.catalog_config(endpoint)
    config["lake"]["s3"]["endpoint"] = endpoint


def test_tables_lie_where_s3_tables_puts_them(lakebed, kafka, s3, spark, unique):
    with TableBucket(s3, unique) as bucket:
        config = config_of(kafka, bucket, unique)
        send(kafka, unique, 0, [({"id": n, "v": f"first {n}"}, "c") for n in range(6)])
        checked = lakebed.run(["check"], config)
        missing = f"PROBLEM  there is no namespace `{unique}_silver` in the REST catalog"
        assert checked.returncode == 1 and missing in checked.stdout, checked
        config["lake"]["catalog"]["create_databases"] = True
        lakebed.start(config, "run", "--until-caught-up").expect(0, 90)

        theirs = with_pyiceberg.s3_tables(bucket)
        silver = theirs.load_table((f"{unique}_silver", "t"))
        assert silver.location() == f"s3://{bucket.name}/{unique}_silver/t"
        assert by_id(with_pyiceberg.rows(silver), "v") == {n: (f"first {n}",) for n in range(6)}
        # Theirs: a row rewritten away, and a property.
        silver.delete("id = 3")
        silver.transaction().set_properties(theirs="kept").commit_transaction()

        bucket.faults.extend([LOST_REPLY, Answer(503, after_effect=True), LOST_REQUEST, Answer(503)])
        more = [({"id": 1, "v": "second", "w": 1.5}, "u"), ({"id": 3, "v": "back"}, "c")]
        send(kafka, unique, 10, [*more, ({"id": 4}, "d"), ({"id": 0, "v": "last"}, "u")])
        lakebed.start(config, "run", "--until-caught-up").expect(0, 90)
        assert not bucket.faults

        expected = {
            0: ("last", None), 1: ("second", 1.5), 2: ("first 2", None),
            3: ("back", None), 5: ("first 5", None),
        }  # fmt: skip
        silver = theirs.load_table((f"{unique}_silver", "t"))
        assert by_id(with_pyiceberg.rows(silver), "v", "w") == expected
        assert silver.properties["theirs"] == "kept"
        commits = [s.summary.get("lakebed.commit-id") for s in silver.metadata.snapshots]
        ours = [commit for commit in commits if commit]
        assert len(set(ours)) == len(ours), "each commit is in once"
        assert by_id(spark.s3_tables(bucket, f"{unique}_silver.t"), "v", "w") == expected
        bronze = with_pyiceberg.rows(theirs.load_table((f"{unique}_bronze", "t")))
        assert sorted(row["_offset"] for row in bronze) == list(range(10))

        shown = lakebed.run(["show", "t", "--count"], config)
        assert shown.stdout.strip() == "5", shown
        status = lakebed.run(["status"], config)
        assert status.returncode == 0 and f"{unique}_silver.t" in status.stdout, status
        checked = lakebed.run(["check", "--all-tables"], config)
        assert checked.returncode == 0 and "can query 2 tables" in checked.stdout, checked
        # It is tried whether tables can be prepared; nothing else that is refused is asked for.
        assert set(bucket.refused) == {"stage-create"}, bucket.refused
        policy = json.loads((TESTS.parent / "docs" / "iam" / "s3tables.json").read_text())
        allowed = {action for part in policy["Statement"] for action in part["Action"]}
        assert bucket.permissions == allowed, "the policy allows what was asked for, no more"
    # What looks at all lakes of the run later does so without the proxy.
    reach(config, bucket, s3.endpoint)
