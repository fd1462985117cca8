"""The comparer sees every difference, and none where there is none."""

import json
from decimal import Decimal

import pytest

from parts import topics
from parts.topics import Record
from readers.compare import EVERY, ROW, Expected, bronze_problems, compare, problems
from readers.rows import Date, Instant, Time, Timestamp
from readers.source import SourceTable, from_postgres, from_state

# Type, its value as SQL, what silver should hold, and something near that is not the same.
CASES = [
    ("smallint", "-32768", -32768, -32767),
    ("bigint", "9007199254740993", 9007199254740993, 9007199254740992),
    ("numeric(20,4)", "12345678901234.5678", Decimal("12345678901234.5678"), Decimal("12345678901234.5679")),
    ("numeric", "0.10", "0.1", "0.11"),
    ("numeric", "1.5", 1.5, 1.25),
    ("money", "'-$1,234.50'", Decimal("-1234.5"), Decimal("1234.5")),
    ("real", "0.1", 0.10000000149011612, 0.2),
    ("double precision", "0.1", 0.1, 0.10000000149011612),
    ("double precision", "'-0'", -0.0, 0.0),
    ("double precision", "'NaN'", float("nan"), None),
    ("boolean", "true", True, 1),
    ("text", "'5'", "5", 5),
    ("text", "''", "", None),
    ("character(4)", "'a'", "a   ", "a"),
    ("bytea", r"'\x00ff'", b"\x00\xff", b"\x00"),
    ("bytea", r"'\x00ff'", "AP8=", "AP7="),
    ("uuid", "'12345678-9abc-def0-1234-56789abcdef0'", "12345678-9abc-def0-1234-56789abcdef0", "x"),
    ("date", "'1969-12-31'", Date(-1), Date(0)),
    ("date", "'0044-03-15 BC'", Date(-735160), Date(-735159)),
    ("date", "'2026-02-28'", "2026-02-28Z", "2026-03-01Z"),
    ("time", "'24:00:00'", Time(86_400_000_000), Time(0)),
    ("time(3)", "'12:00:00.5'", "12:00:00.500Z", "12:00:00Z"),
    ("timetz", "'23:00:00-08'", "07:00:00Z", "23:00:00Z"),
    ("timestamp", "'10000-01-01'", Timestamp(253402300800000000), Timestamp(253402300799999999)),
    ("timestamp", "'2026-01-01 00:00:00.000001'", Timestamp(1767225600000001), Instant(1767225600000001)),
    ("timestamptz", "'2026-01-01 02:00:00.000001+02'", Instant(1767225600000001), Instant(1767225600000000)),
    ("timestamptz", "'2026-01-01 00:00:00+00'", "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:01Z"),
    ("interval", "'-1 mons +1 day -00:00:00.000001'", -2543400000001, -2543400000000),
    ("interval", "'1 year 2 days'", "P1Y0M2DT0H0M0S", "P1Y2M"),
    ("jsonb", """'{"b": 1.10, "a": [true, null]}'""", '{"a":[true,null],"b":1.1}', '{"a":[1,null],"b":1.1}'),
    ("jsonb", "'null'", "null", None),
    ("inet", "'10.0.0.1'", "10.0.0.1", "10.0.0.2"),
    ("bit(1)", "B'1'", True, False),
    ("bit(10)", "B'1000000001'", b"\x01\x02", b"\x02\x01"),
    ("integer[]", "'{1,NULL,-3}'", [1, None, -3], [1, -3]),
    ("text[]", """ARRAY['a', 'b,c', 'd"e\\', NULL, '', 'NULL', '{}']""",
     ["a", "b,c", 'd"e\\', None, "", "NULL", "{}"], ["a", "b,c", 'd"e\\', None, "", None, "{}"]),
    ("numeric(5,2)[]", "'{1.10}'", '["1.1"]', '["1.2"]'),
    ("timestamptz[]", "'{2026-01-01 00:00:00+00}'", [Instant(1767225600000000)], []),
    ("int", "NULL", None, 0),
]  # fmt: skip


@pytest.fixture(scope="module")
def every_type(postgres) -> SourceTable:
    postgres.create_database("compare")
    columns = ", ".join(f"c{i} {kind}" for i, (kind, *_) in enumerate(CASES))
    values = ", ".join(sql for _, sql, _, _ in CASES)
    postgres.run_sql("compare", "CREATE DOMAIN amount AS numeric(10,3)")
    statement = (
        f"CREATE TABLE t (id int, region text, d amount, {columns}, PRIMARY KEY (region, id))"
    )
    postgres.run_sql("compare", statement)
    postgres.run_sql("compare", f"INSERT INTO t VALUES (1, 'eu', 1.5, {values})")
    with postgres.connect("compare") as connection:
        return from_postgres(connection, "public.t")


def row() -> dict:
    values = {f"c{i}": value for i, (_, _, value, _) in enumerate(CASES)}
    return {"id": 1, "region": "eu", "d": Decimal("1.5"), **values, "_cdc_op": "c"}


def test_equal_rows_are_equal(every_type):
    assert every_type.key == ("region", "id")
    assert dict(every_type.columns)["d"] == "numeric(10,3)"
    comparison = compare(every_type, [row()])
    assert problems([comparison]) == []
    assert (comparison.rows, comparison.cells) == (1, len(CASES) + 3)
    assert comparison.shapes["c2"] == {"Decimal"}


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_a_value_that_is_nearly_right_is_found(every_type, number):
    wrong = row() | {f"c{number}": CASES[number][3]}
    (difference,) = compare(every_type, [wrong]).differences
    assert (difference.column, difference.key) == (f"c{number}", ("eu", "1"))


def test_rows_and_columns_that_do_not_belong_are_found(every_type):
    other = row() | {"id": 2}
    assert [d.column for d in compare(every_type, []).differences] == [ROW]
    assert [d.key for d in compare(every_type, [row(), other]).differences] == [("eu", "2")]
    assert [d.silver for d in compare(every_type, [row(), row()]).differences] == ["more than once"]
    extra = compare(every_type, [row() | {"stranger": 1}]).differences
    assert [(d.column, d.key) for d in extra] == [("stranger", EVERY)]


def test_an_expected_difference_has_to_be_there(every_type):
    wrong = compare(every_type, [row() | {"c0": 0}])
    assert problems([wrong], [Expected("public.t", "c0", "known")]) == []
    assert problems([wrong], [Expected("public.t", "c0", "known", ("eu", "1"))]) == []
    assert len(problems([wrong], [Expected("public.t", "c0", "another row", ("eu", "2"))])) == 2
    (stale,) = problems([compare(every_type, [row()])], [Expected("public.t", "c0", "mended")])
    assert "expected to differ (mended)" in stale


def test_bronze_holds_each_record_once():
    records = [Record("t", 0, 0, 5, b"k", b"v", (("h", b"x"),)), Record("t", 0, 1, 6, None, None)]
    bronze = [
        {"_topic": "t", "_kafka_partition": 0, "_offset": 0, "_timestamp": Instant(5000), "_key": b"k",
         "headers": [{"key": "h", "value": b"x"}]},
        {"_topic": "t", "_kafka_partition": 0, "_offset": 1, "_timestamp": Instant(6000), "_key": None,
         "headers": None},
    ]  # fmt: skip
    assert bronze_problems(records, bronze) == []
    assert len(bronze_problems(records, bronze[:1])) == 1
    assert len(bronze_problems(records[:1], bronze)) == 1
    assert len(bronze_problems(records, [*bronze, bronze[0]])) == 1
    assert len(bronze_problems(records, [bronze[0] | {"_key": b"other"}, bronze[1]])) == 1


# What the string modes of Debezium cannot tell, or tell otherwise (see the recording's manifest).
STRING_MODES = [
    *(
        Expected("types.temporal", column, "24:00 becomes 00:00 in ISO text", (key,))
        for column in ("t", "t0", "t3")
        for key in ("4", "104")
    ),
    Expected("types.temporal", "d", "a day of 1582 that the snapshot moves by ten", ("6",)),
]


def test_a_recorded_topic_in_string_modes_gives_the_recorded_source(shared):
    """No product in between: Debezium's own values, last one per key, against the server's."""
    folder = shared / "golden" / "postgres"
    state = from_state(folder / "state.jsonl")
    tables: dict[str, dict[str, dict]] = {}
    for record in topics.recording(folder / "modes-string.jsonl.gz"):
        if not record.value or ".types." not in record.topic:
            continue
        event = json.loads(record.value, parse_float=Decimal)
        event = event.get("payload", event)
        rows = tables.setdefault(record.topic.split(".", 1)[1], {})
        key = json.dumps((event["after"] or event["before"])["id"])
        rows.pop(key, None)
        if event["op"] != "d":
            rows[key] = {
                name: float(value)
                if name in ("c_real", "c_double", "f4", "f8") and value is not None
                else value
                for name, value in event["after"].items()
            }
    names = ["basic", "numbers", "temporal", "arrays", "floats", "netbits"]
    comparisons = [
        compare(state[f"types.{name}"], list(tables[f"types.{name}"].values())) for name in names
    ]
    assert problems(comparisons, STRING_MODES) == []
    assert sum(c.cells for c in comparisons) == 582
