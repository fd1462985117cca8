"""The one form in which every reader returns rows: a list of dicts, column name to exact value.

None, bool, int, float, Decimal, str, bytes, list (arrays), dict (structs), list of pairs (maps),
and the four kinds of time below. Those are counted from 1970-01-01, because Python's own dates end
at the year 9999 and a database's do not. A uuid is text.
"""

import uuid
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute

Row = dict[str, object]


@dataclass(frozen=True, order=True)
class Date:
    days: int


@dataclass(frozen=True, order=True)
class Time:
    """Time of day without a zone."""

    micros: int


@dataclass(frozen=True, order=True)
class Timestamp:
    """Date and time of day as somebody wrote it down, without a zone."""

    micros: int


@dataclass(frozen=True, order=True)
class Instant:
    """A moment, in UTC."""

    micros: int


_MICROS = {"s": 1_000_000, "ms": 1000, "us": 1}


def from_arrow(table: pa.Table) -> list[Row]:
    columns = [_values(table.column(i).combine_chunks()) for i in range(table.num_columns)]
    names = table.column_names
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def by_id(rows: list[Row], *columns: str) -> dict[object, tuple]:
    """These columns of each row by its ``id``; None where a row has no such column."""
    return {row["id"]: tuple(row.get(column) for column in columns) for row in rows}


def _values(array: pa.Array) -> list:
    if isinstance(array, pa.ChunkedArray):  # combine_chunks keeps it for an empty column
        return [value for chunk in array.chunks for value in _values(chunk)]
    kind = array.type
    if isinstance(kind, pa.UuidType):
        return [
            None if raw is None else str(uuid.UUID(bytes=raw)) for raw in array.storage.to_pylist()
        ]
    if isinstance(kind, pa.BaseExtensionType):
        return _values(array.storage)
    if pa.types.is_dictionary(kind):
        return _values(array.dictionary_decode())
    if pa.types.is_date32(kind):
        return _wrapped(Date, array.cast(pa.int32()))
    if pa.types.is_time(kind) or pa.types.is_timestamp(kind):
        return _wrapped(_time_class(kind), _micros(array))
    if pa.types.is_struct(kind):
        fields = [_values(child) for child in array.flatten()]
        names = [kind.field(i).name for i in range(kind.num_fields)]
        valid = array.is_valid().to_pylist()
        return [
            dict(zip(names, (field[i] for field in fields))) if ok else None
            for i, ok in enumerate(valid)
        ]
    if pa.types.is_map(kind):
        entries = list(zip(_values(array.keys), _values(array.items)))
        return _cut(array, entries)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _cut(array, _values(array.values))
    if pa.types.is_nested(kind) or pa.types.is_interval(kind) or pa.types.is_duration(kind):
        raise TypeError(f"no form for Arrow's {kind}")
    return array.to_pylist()


def _cut(array: pa.Array, values: list) -> list:
    """Children of a list or map array, one list per element."""
    ends = array.offsets.to_pylist()
    valid = array.is_valid().to_pylist()
    return [values[ends[i] : ends[i + 1]] if ok else None for i, ok in enumerate(valid)]


def _wrapped(kind: type, integers: pa.Array) -> list:
    return [None if value is None else kind(value) for value in integers.to_pylist()]


def _time_class(kind: pa.DataType) -> type:
    if pa.types.is_time(kind):
        return Time
    return Instant if kind.tz else Timestamp


def _micros(array: pa.Array) -> pa.Array:
    width = pa.int32() if pa.types.is_time32(array.type) else pa.int64()
    counted = array.cast(width).cast(pa.int64())
    if array.type.unit != "ns":
        return pa.compute.multiply_checked(counted, _MICROS[array.type.unit])
    whole = pa.compute.divide(counted, 1000)
    if not pa.compute.multiply(whole, 1000).equals(counted):
        raise ValueError("a nanosecond value that is no whole microsecond")
    return whole
