"""Silver against its source, row by row and value by value; bronze against its topic.

``compare`` gives every difference; ``problems`` holds them against the ones a test expects, where
an expected one that is not there is a problem as well. Nothing here is shared with the product.
"""

from dataclasses import dataclass, field

from parts.topics import Record
from readers import postgres_values as values
from readers.rows import Instant, Row
from readers.source import SourceTable

# Stands for the column where a whole row is missing, too many or there twice.
ROW = "(row)"
# Stands for the key where a whole column is meant.
EVERY = "(every row)"

_OURS = "_cdc_"
_SHOWN = 200


@dataclass(frozen=True)
class Difference:
    table: str
    column: str
    key: tuple[str | None, ...] | str  # as the server prints it
    source: object
    silver: object

    def __str__(self) -> str:
        texts = (repr(value) for value in (self.source, self.silver))
        ours, theirs = (t if len(t) <= _SHOWN else t[:_SHOWN] + "…" for t in texts)
        return f"{self.table}.{self.column} of {self.key}: source {ours}, silver {theirs}"


@dataclass(frozen=True)
class Expected:
    """A difference that is known, and why. Without ``key``: any number of rows, at least one."""

    table: str
    column: str
    reason: str
    key: tuple[str, ...] | None = None

    def covers(self, difference: Difference) -> bool:
        return (
            (self.table, self.column) == (difference.table, difference.column)
            and self.key in (None, difference.key)
        )  # fmt: skip


@dataclass
class Comparison:
    table: str
    rows: int = 0
    cells: int = 0
    differences: list[Difference] = field(default_factory=list)
    # What shapes the values of a column had: {"price": {"Decimal"}}. A test that insists on exact
    # types, and not on digits kept as text, asks here.
    shapes: dict[str, set[str]] = field(default_factory=dict)


def silver_name(source_name: str) -> str:
    """The plain rule; a test gives the names that do not follow it."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in source_name.lower())


def compare(
    source: SourceTable,
    silver: list[Row],
    names: dict[str, str] | None = None,
    key: tuple[str, ...] | None = None,
) -> Comparison:
    """``names``: silver's names of columns where ``silver_name`` does not give them.
    ``key``: source columns, where the table has no primary key."""
    result = Comparison(source.name)
    key = key or source.key
    if not key:
        raise ValueError(f"{source.name} has no primary key: say which columns tell its rows apart")
    named = {column: (names or {}).get(column, silver_name(column)) for column, _ in source.columns}
    kinds = {column: values.kind(type_name) for column, type_name in source.columns}
    places = {column: place for place, (column, _) in enumerate(source.columns)}

    found: dict[tuple, Row] = {}
    for row in silver:
        identity = tuple(_form_or_raw(kinds[c], row.get(named[c])) for c in key)
        if identity in found:
            shown = tuple(_shown(row.get(named[c])) for c in key)
            result.differences.append(Difference(source.name, ROW, shown, "once", "more than once"))
        found[identity] = row

    for texts in source.rows:
        identity = tuple(values.source(kinds[c], texts[places[c]]) for c in key)
        shown = tuple(texts[places[c]] for c in key)
        row = found.pop(identity, None)
        if row is None:
            result.differences.append(Difference(source.name, ROW, shown, "present", "missing"))
            continue
        result.rows += 1
        for column, place in places.items():
            result.cells += 1
            _compare_cell(
                result, column, kinds[column], shown, texts[place], row.get(named[column])
            )

    for row in found.values():
        shown = tuple(_shown(row.get(named[c])) for c in key)
        result.differences.append(Difference(source.name, ROW, shown, "missing", "present"))
    known = set(named.values())
    for column in silver[0] if silver else ():
        if column not in known and not column.startswith(_OURS):
            difference = Difference(source.name, column, EVERY, "no such column", "a column")
            result.differences.append(difference)
    return result


def _compare_cell(result, column: str, of: values.Kind, shown, text: str | None, value) -> None:
    if value is not None:
        result.shapes.setdefault(column, set()).add(type(value).__name__)
    ours = values.source(of, text)
    try:
        same = values.equal(of, ours, values.silver(of, value))
    except values.Unreadable:
        same = False
    if not same:
        result.differences.append(Difference(result.table, column, shown, text, value))


def _form_or_raw(of: values.Kind, value: object) -> object:
    try:
        return values.silver(of, value)
    except values.Unreadable:
        return "unreadable", repr(value)


def _shown(value: object) -> str | None:
    return None if value is None else str(value)


def problems(comparisons: list[Comparison], expected: list[Expected] = ()) -> list[str]:
    """Differences nobody expected, and expected ones that are not there. A test wants none."""
    differences = [d for comparison in comparisons for d in comparison.differences]
    found = [str(d) for d in differences if not any(e.covers(d) for e in expected)]
    for entry in expected:
        if not any(entry.covers(d) for d in differences):
            row = "" if entry.key is None else f" of {entry.key}"
            place = f"{entry.table}.{entry.column}{row}"
            found.append(f"{place}: expected to differ ({entry.reason}), but it does not")
    return found


def bronze_problems(records: list[Record], bronze: list[Row]) -> list[str]:
    """Every record is in bronze once, with its key, time and headers, and nothing else is."""
    found: list[str] = []
    rows: dict[tuple, Row] = {}
    for row in bronze:
        place = (row["_topic"], row["_kafka_partition"], row["_offset"])
        if place in rows:
            found.append(f"{place}: twice in bronze")
        rows[place] = row
    for record in records:
        place = (record.topic, record.partition, record.offset)
        row = rows.pop(place, None)
        if row is None:
            found.append(f"{place}: not in bronze")
            continue
        wanted = {
            "_key": record.key,
            "_timestamp": None if record.timestamp is None else Instant(record.timestamp * 1000),
            # No headers may be null or an empty list.
            "headers": [{"key": name, "value": value} for name, value in record.headers],
        }
        for column, value in wanted.items():
            if row[column] != value and not (column == "headers" and not row[column] and not value):
                found.append(f"{place}: {column} is {row[column]!r}, the record has {value!r}")
    found += [f"{place}: in bronze, not in Kafka" for place in rows]
    return found
