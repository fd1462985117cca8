"""Columns left out or masked: what they held is in no file of the lake, in no dead letter and in no
line of the log, and a damaged record of such a table does not bring it back."""

import hashlib
import hmac
import json

import pytest

import records
import tables
from parts import topics
from parts.topics import Record
from tables import FORMATS, Entry

SECRET = "Vv7-q2Wz-0911"
KEY = "an hmac key of some length"
COLUMNS = {
    "ssn": {"mask": "hmac-sha256"},
    "card": {"mask": "last4"},
    "note": {"mask": None},
    "photo": {"exclude": True},
}
HEADERS = (("mine", SECRET.encode()),)


def row(number: int) -> dict:
    return {
        "ssn": f"{SECRET}-{number}", "card": f"{SECRET}-4321", "note": SECRET, "photo": SECRET,
        "kept": number,
    }  # fmt: skip


def digest(number: int) -> str:
    text = f"{SECRET}-{number}".encode()
    return hmac.new(KEY.encode(), text, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_hidden_value_is_nowhere(lakebed, kafka, tmp_path, unique, kind):
    topic, letters = f"{unique}.public.t", f"{unique}-letters"
    topics.create_topic(kafka, topic)
    topics.create_topic(kafka, letters)
    produced = [records.record(topic, n, row(n), key="ssn") for n in range(3)]
    key, value = produced[0].key, produced[0].value
    # Cut off, no JSON, no row, a key of another table; all hold the value.
    damaged = [value[:-30], b"\x00" + value, value.replace(b'"after":{', b'"after":7,"x":{')]
    damaged += [value.replace(b'"op":"c"', b'"op":"q"')]
    produced += [Record(topic, 0, 3, None, key, bad, HEADERS) for bad in damaged]
    produced.append(Record(topic, 0, 7, None, records.text({"other": 1}), value, HEADERS))
    produced.append(Record(topic, 0, 8, None, b'{"ssn":"' + SECRET.encode(), None, HEADERS))
    produced.append(records.record(topic, 9, row(1), op="d", key="ssn"))
    topics.produce(kafka, produced)
    entry = Entry(topic, "t", kind)
    config = tables.config(
        kafka.lakebed_config(), tmp_path / "lake", [entry], unique,
        masking={"hmac_key": "${env:LAKEBED_TEST_KEY}"},
        bad_records={"dead_letter_topic": letters},
    )  # fmt: skip
    config["tables"][0]["columns"] = COLUMNS
    environment = {"LAKEBED_TEST_KEY": KEY}
    running = lakebed.start(config, "run", "--until-caught-up", env=environment)
    running.expect(0, 90)

    silver = tables.FIRST_READER[kind](entry.place(tmp_path / "lake", "silver"))
    seen = {(r["ssn"], r["card"], r["note"], r["kept"]) for r in silver}
    assert seen == {(digest(n), "****4321", None, n) for n in (0, 2)}
    assert all("photo" not in r for r in silver)
    bronze = tables.in_order(tables.FIRST_READER[kind](entry.place(tmp_path / "lake", "bronze")))
    assert [r["_offset"] for r in bronze] == list(range(10))
    assert json.loads(bronze[0]["after"])["ssn"] == digest(0)
    assert json.loads(bronze[0]["_key"]) == {"ssn": digest(0)}
    for bad in bronze[3:9]:
        assert bad["_error"] and bad["_value"] is None, bad
    for bad in (*bronze[3:7], bronze[8]):
        assert "not kept" in bad["_error"], bad
    assert all(r["headers"] == [{"key": "mine", "value": None}] for r in bronze[3:9])

    found = topics.read_topic(kafka, letters)
    assert len(found) == 6
    assert all(letter.value is None for letter in found)
    texts = {"bronze": repr(bronze), "silver": repr(silver), "letters": repr(found)}
    texts["log"] = running.stdout + running.stderr
    files = [file for file in (tmp_path / "lake").rglob("*") if file.is_file()]
    assert len(files) > 5
    texts.update({str(file): file.read_bytes().decode("latin-1") for file in files})
    for form in (SECRET, SECRET.encode().hex()):
        for name, text in texts.items():
            assert form not in text, f"{name} holds the value"
