"""Debezium's Avro with a real registry, in each way in which its converter names a schema."""

import pytest

import tables
from parts import topics
from readers.compare import problems
from readers.source import from_postgres
from tables import FORMATS, Entry

# What says in Lakebed's configuration what the converter's settings say there.
RECORDS = {
    "confluent": lambda registry: {"type": "confluent", "url": registry.confluent_url},
    "8byte": lambda registry: {
        "type": "apicurio",
        "url": f"{registry.url}/apis/registry/v2",
        "ids": "8-byte",
    },
    "headers": lambda registry: {
        "type": "apicurio",
        "url": f"{registry.url}/apis/registry/v3",
        "ids": "headers",
    },
}

TABLE = (
    "CREATE TABLE item (id int PRIMARY KEY, price numeric(12,2), ratio numeric, big bigint,"
    " score double precision, at timestamptz, written timestamp, day date, note text)"
)
ROW = (
    "INSERT INTO item SELECT n, n / 7.0, n / 3.0, 9223372036854775807 - n, n / 3.0,"
    " '2026-01-01T00:00:00.000001Z'::timestamptz + n * interval '1 hour',"
    " '2026-01-01T00:00:00.000001'::timestamp + n * interval '1 hour',"
    " '2026-01-01'::date + n::int, repeat('ü', n::int % 5) FROM generate_series({}, {}) n"
)


@pytest.mark.parametrize("framing", RECORDS)
def test_avro_of_debezium_becomes_the_source(
    connect, kafka, postgres, registry, lakebed, unique, tmp_path, framing
):
    postgres.create_database(unique)
    postgres.run_sql(unique, f"{TABLE}; {ROW.format(1, 50)}")
    settings = registry.avro(framing)
    connect.create_postgres_connector(unique, postgres, unique, "public.item", **settings)
    postgres.run_sql(
        unique,
        f"{ROW.format(51, 100)};"
        "UPDATE item SET price = -price, at = NULL WHERE id % 3 = 0;"
        "UPDATE item SET id = id + 1000 WHERE id % 10 = 0;"
        "DELETE FROM item WHERE id % 7 = 0",
    )
    connect.wait_caught_up(unique, postgres, unique)
    topic = f"{unique}.public.item"
    entries = [Entry(topic, f"item_{kind}", kind) for kind in FORMATS]
    records = {"format": "avro", "registry": RECORDS[framing](registry)}
    config = tables.config(kafka.lakebed_config(), tmp_path, entries, unique, records=records)
    lakebed.start(config, "run", "--until-caught-up").expect(0, 120)

    with postgres.connect(unique) as connection:
        source = from_postgres(connection, "public.item")
    assert len(source.rows) > 80
    comparisons = [tables.silver_comparison(source, entry, tmp_path) for entry in entries]
    assert problems(comparisons) == []
    read = topics.read_topic(kafka, topic)
    for entry in entries:
        bronze = tables.bronze_rows(entry, tmp_path)
        assert len(bronze) == len(read) > 150
        assert {row["_error"] for row in bronze} == {None}
    connect.delete_connector(unique, postgres, unique)
    postgres.drop_database(unique)
