"""The parts do what the other tests rely on."""

import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from parts import Lakebed, topics
from parts.process import wait_until
from parts.topics import Record


def test_a_connector_streams_a_table(connect, kafka, postgres, unique):
    postgres.create_database(unique)
    postgres.run_sql(
        unique,
        "CREATE TABLE item (id int PRIMARY KEY, v text DEFAULT 'd');"
        "INSERT INTO item SELECT i, 'seed ' || i FROM generate_series(1, 100) i",
    )
    connect.create_postgres_connector(unique, postgres, unique, "public.item")
    connect.wait_caught_up(unique, postgres, unique)
    assert len(topics.read_topic(kafka, f"{unique}.public.item")) == 100

    postgres.run_sql(unique, "UPDATE item SET v = NULL WHERE id = 1; DELETE FROM item WHERE id = 2")
    connect.wait_caught_up(unique, postgres, unique)
    update, delete, tombstone = topics.read_topic(kafka, f"{unique}.public.item")[100:]
    assert b'"op":"u"' in update.value and b'"after":{"id":1,"v":null}' in update.value
    assert b'"op":"d"' in delete.value
    assert tombstone.key == delete.key == b'{"id":2}' and tombstone.value is None

    connect.delete_connector(unique, postgres, unique)
    postgres.drop_database(unique)


def test_a_connector_streams_a_table_of_mariadb(connect, kafka, mariadb, unique):
    mariadb.create_database(unique)
    mariadb.run_sql(
        unique,
        "CREATE TABLE item (id int PRIMARY KEY, v varchar(20) DEFAULT 'd')",
        "INSERT INTO item SELECT seq, concat('seed ', seq) FROM seq_1_to_100",
    )
    connect.create_mariadb_connector(unique, mariadb, unique, f"{unique}.item")
    connect.wait_mariadb_caught_up(unique, mariadb)
    topic = f"{unique}.{unique}.item"
    assert len(topics.read_topic(kafka, topic)) == 100

    mariadb.run_sql(unique, "UPDATE item SET v = NULL WHERE id = 1", "DELETE FROM item WHERE id = 2")
    connect.wait_mariadb_caught_up(unique, mariadb)
    update, delete, tombstone = topics.read_topic(kafka, topic)[100:]
    assert b'"op":"u"' in update.value and b'"after":{"id":1,"v":null}' in update.value
    assert b'"op":"d"' in delete.value
    assert tombstone.key == delete.key == b'{"id":2}' and tombstone.value is None

    connect.delete_connector(unique)
    mariadb.drop_database(unique)


def test_a_killed_worker_goes_on_where_it_was_or_before(connect, kafka, mariadb, unique):
    mariadb.create_database(unique)
    mariadb.run_sql(unique, "CREATE TABLE item (id int PRIMARY KEY)")
    connect.create_mariadb_connector(unique, mariadb, unique, f"{unique}.item")
    connect.wait_mariadb_caught_up(unique, mariadb)
    for number in range(20):
        mariadb.run_sql(unique, f"INSERT INTO item VALUES ({number})")
    topic = f"{unique}.{unique}.item"
    wait_until(lambda: topic in topics.topics(kafka), 30, "a first record")
    connect.kill()
    connect.start()
    connect.wait_running(unique)
    mariadb.run_sql(unique, "INSERT INTO item VALUES (20)")
    connect.wait_mariadb_caught_up(unique, mariadb)
    keys = [record.key for record in topics.read_topic(kafka, topic)]
    assert {b'{"id":%d}' % number for number in range(21)} == set(keys)
    connect.delete_connector(unique)
    mariadb.drop_database(unique)


@pytest.mark.parametrize("framing", ["confluent", "8byte", "headers"])
def test_avro_names_its_schema_in_the_registry(connect, kafka, mariadb, registry, unique, framing):
    mariadb.create_database(unique)
    mariadb.run_sql(unique, "CREATE TABLE item (id int PRIMARY KEY)", "INSERT INTO item VALUES (7)")
    settings = registry.avro(framing)
    connect.create_mariadb_connector(unique, mariadb, unique, f"{unique}.item", **settings)
    connect.wait_mariadb_caught_up(unique, mariadb)
    topic = f"{unique}.{unique}.item"
    (record,) = topics.read_topic(kafka, topic)
    assert {f"{topic}-key", f"{topic}-value"} <= set(registry.subjects())
    if framing == "headers":
        named = {name for name, _ in record.headers}
        assert {"apicurio.key.globalId", "apicurio.value.globalId"} <= named
        assert record.key == b"\x0e"
    else:
        width = {"confluent": 4, "8byte": 8}[framing]
        assert record.key[0] == 0 and record.key[1 + width :] == b"\x0e"
        identity = int.from_bytes(record.value[1 : 1 + width], "big")
        assert identity > 0
        if framing == "confluent":
            assert '"Envelope"' in registry.schema(identity)
    connect.delete_connector(unique)
    mariadb.drop_database(unique)


def test_the_registry_keeps_schemas_and_their_ids_over_a_restart(registry, unique):
    identity = registry.register(f"{unique}-value", '{"type":"string"}')
    registry.restart()
    assert registry.schema(identity) == '{"type":"string"}'


def test_a_connector_that_cannot_run_says_why(connect, postgres, unique):
    with pytest.raises(Exception, match="does not exist|failed|not found"):
        connect.create_postgres_connector(unique, postgres, "no_such_database", "public.item")


def test_a_recording_arrives_as_it_was(kafka, shared):
    path = shared / "golden" / "postgres" / "json.jsonl.gz"
    rename = "replayed-{}".format
    counts = topics.replay(kafka, path, wanted=lambda topic: ".changes." in topic, rename=rename)
    assert counts["replayed-pg-json.changes.three"] == 208

    recorded = [r for r in topics.recording(path) if ".changes." in r.topic]
    assert sum(counts.values()) == len(recorded) > 800
    for topic, count in counts.items():
        arrived = topics.read_topic(kafka, topic)
        assert len(arrived) == count
        original = sorted(
            (r for r in recorded if rename(r.topic) == topic), key=lambda r: (r.partition, r.offset)
        )
        assert [bare(r) for r in arrived] == [bare(r) for r in original]
    assert topics.end_offsets(kafka, "replayed-pg-json.changes.three").keys() == {0, 1, 2}


def bare(record: Record) -> tuple:
    return record.partition, record.timestamp, record.key, record.value, record.headers


def test_aborted_records_are_read_only_when_asked_for(kafka, unique):
    topics.create_topic(kafka, unique)
    producer = Producer({**kafka.client(), "transactional.id": unique})
    producer.init_transactions(30)
    for value, end in (
        (b"kept", producer.commit_transaction),
        (b"lost", producer.abort_transaction),
    ):
        producer.begin_transaction()
        producer.produce(unique, value)
        producer.flush(30)
        end(30)
    assert [r.value for r in topics.read_topic(kafka, unique)] == [b"kept"]
    everything = topics.read_topic(kafka, unique, read_committed=False)
    assert [r.value for r in everything] == [b"kept", b"lost"]
    # Two records and the marker behind each.
    assert topics.end_offsets(kafka, unique) == {0: 4}


def test_committed_offsets_are_seen(kafka, unique):
    topics.create_topic(kafka, unique, partitions=2)
    topics.produce(kafka, [Record(unique, 1, 0, None, None, b"x")])
    consumer = Consumer({**kafka.client(), "group.id": unique})
    consumer.commit(offsets=[TopicPartition(unique, 1, 1)], asynchronous=False)
    consumer.close()
    assert topics.committed_offsets(kafka, unique) == {(unique, 1): 1}


def test_the_secured_listener_lets_in_who_knows_the_password(kafka, unique):
    topics.create_topic(kafka, unique)
    secured = kafka.client(sasl=True)
    assert unique in Consumer({**secured, "group.id": unique}).list_topics(timeout=20).topics
    refused = Consumer({**secured, "sasl.password": "wrong", "group.id": unique})
    with pytest.raises(KafkaException):
        refused.list_topics(timeout=3)


def test_s3_keeps_objects_over_a_restart_and_honours_conditions(s3):
    bucket = f"b-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(bucket)
    s3.client().put_object(Bucket=bucket, Key="a", Body=b"1", IfNoneMatch="*")
    s3.restart()
    assert s3.client().get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"
    with pytest.raises(s3.client().exceptions.ClientError, match="PreconditionFailed"):
        s3.client().put_object(Bucket=bucket, Key="a", Body=b"2", IfNoneMatch="*")


def test_the_parts_die_with_the_process_that_started_them():
    command = [sys.executable, "-u", "-m", "parts", "up", "--only", "s3,postgres,mariadb"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True
    ) as starter:
        ports = []
        for line in starter.stdout:
            ports += [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", line)]
            if line.startswith("up after"):
                break
        assert len(ports) == 3 and all(is_open(port) for port in ports)
        os.kill(starter.pid, signal.SIGKILL)
    wait_until(lambda: not any(is_open(port) for port in ports), 10, "ports closed")


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_program_is_started_killed_and_asked(tmp_path, kafka):
    binary = tmp_path / "lakebed"
    binary.write_text(
        '#!/bin/sh\necho "$@"; cat "$3"; echo "$KAFKA_USER" >&2; [ "$4" ] || sleep 60\n'
    )
    binary.chmod(0o755)
    program = Lakebed(binary)

    running = program.start({"kafka": kafka.lakebed_config(sasl=True)}, "run")
    running.wait_for_output("${env:KAFKA_USER}")
    running.wait_for_output("lakebed\n")
    assert running.exit_code is None
    running.kill9()
    assert running.exit_code == -signal.SIGKILL

    running = program.start({}, "run")
    running.sigterm()
    assert running.wait(5) == -signal.SIGTERM
    program.start({}, "run", "--until-caught-up").expect(0)
    assert program.run(["show", "--count"], {"a": 1}).stdout.endswith("--count\na: 1\n")
    forgotten = program.start({}, "run")
    program.close()
    assert forgotten.exit_code == -signal.SIGKILL
