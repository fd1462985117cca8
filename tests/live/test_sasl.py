"""Over TLS with SCRAM-SHA-512, the CA given as a file; and what a wrong password leads to."""

import records
import tables
from parts import topics
from tables import FORMATS, LAYERS, Entry

WRONG = "a-wrong-password-5e1f"


def prepare(kafka, unique, location) -> tuple[dict, list[Entry]]:
    topic = f"{unique}.public.t"
    topics.create_topic(kafka, topic)
    rows = [{"id": n, "v": f"{records.PRIVATE}-{n}"} for n in range(50)]
    topics.produce(kafka, [records.record(topic, n, row) for n, row in enumerate(rows)])
    entries = [Entry(topic, f"t_{kind}", kind) for kind in FORMATS]
    config = tables.config(kafka.lakebed_config(sasl=True), location, entries, unique)
    return config, entries


def test_records_arrive_over_tls_and_scram(lakebed, kafka, tmp_path, unique):
    config, entries = prepare(kafka, unique, tmp_path)
    running = lakebed.start(config, "run", "--until-caught-up", env={"LAKEBED_LOG": "debug"})
    running.expect(0, 90)
    for entry in entries:
        silver, bronze = (
            tables.FIRST_READER[entry.format](entry.place(tmp_path, layer)) for layer in LAYERS
        )
        assert sorted(row["id"] for row in silver) == list(range(50))
        assert sorted(row["_offset"] for row in bronze) == list(range(50))
        assert {row["v"] for row in silver} == {f"{records.PRIVATE}-{n}" for n in range(50)}
    assert topics.committed_offsets(kafka, unique) == {(entries[0].topic, 0): 50}
    for text in (running.stdout, running.stderr):
        assert kafka.password not in text and records.PRIVATE not in text


def test_a_wrong_password_ends_with_a_clear_error(lakebed, kafka, tmp_path, unique):
    config, _ = prepare(kafka, unique, tmp_path)
    wrong = {"KAFKA_PASSWORD": WRONG, "LAKEBED_LOG": "debug"}
    # Side by side: both try for a while.
    running = lakebed.start(config, "run", "--until-caught-up", env=wrong)
    checked = lakebed.run(["check"], config, env=wrong)
    assert checked.returncode == 1
    running.expect(1, 90)
    for said in (running.stderr, checked.stdout + checked.stderr):
        assert "authentication" in said.lower() and kafka.sasl_bootstrap in said
        assert WRONG not in said and kafka.password not in said
    assert WRONG not in running.stdout
    assert not list(tmp_path.rglob("*.parquet"))


def test_check_finds_nothing_wrong_with_the_right_password(lakebed, kafka, tmp_path, unique):
    config, _ = prepare(kafka, unique, tmp_path)
    checked = lakebed.run(["check"], config)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert kafka.password not in checked.stdout + checked.stderr
