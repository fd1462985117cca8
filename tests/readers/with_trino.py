"""Both formats by Trino, through Glue."""

import base64
import struct
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal

import requests

from parts.trino import Trino
from readers.rows import Date, Instant, Row, Timestamp

_SECONDS = 180
_HEADERS = {
    "X-Trino-User": "tests",
    "X-Trino-Time-Zone": "UTC",
    # Without it timestamps arrive cut to milliseconds.
    "X-Trino-Client-Capabilities": "PARAMETRIC_DATETIME",
}
_DAY_ZERO = date(1970, 1, 1)
_ZERO = datetime(1970, 1, 1)


def table(trino: Trino, kind: str, database: str, name: str) -> list[Row]:
    """``kind``: ``iceberg`` or ``delta``."""
    return query(trino, f'SELECT * FROM {kind}."{database}"."{name}"')


def query(trino: Trino, sql: str) -> list[Row]:
    columns, rows = [], []
    answer = _call("POST", f"{trino.url}/v1/statement", sql)
    while True:
        if "error" in answer:
            raise RuntimeError(f"Trino: {sql}\n{answer['error']['message']}")
        columns = answer.get("columns", columns)
        rows += answer.get("data", [])
        if "nextUri" not in answer:
            break
        answer = _call("GET", answer["nextUri"])
    names = [column["name"] for column in columns]
    read = [_reader(column["typeSignature"]) for column in columns]
    return [
        {name: of(value) for name, of, value in zip(names, read, row, strict=True)} for row in rows
    ]


def in_millis(wanted: list[Row], rows: list[Row]) -> list[Row]:
    """Trino has Delta's timestamps in milliseconds: where it has one that is not further away than
    that, it is what is wanted."""

    def near(value, read):
        timed = isinstance(value, Instant | Timestamp) and type(value) is type(read)
        is_near = timed and read.micros % 1000 == 0 and abs(read.micros - value.micros) < 1000
        return read if is_near else value

    return [
        {name: near(value, read.get(name)) for name, value in row.items()}
        for row, read in zip(wanted, rows, strict=True)
    ]


def _call(method: str, url: str, body: str | None = None) -> dict:
    data = None if body is None else body.encode()
    answer = requests.request(method, url, data=data, headers=_HEADERS, timeout=_SECONDS)
    answer.raise_for_status()
    return answer.json()


def _reader(signature: dict) -> Callable[[object], object]:
    """How values of a type arrive as JSON."""
    kind, inner = signature["rawType"], signature["arguments"]
    if kind == "array":
        element = _reader(inner[0]["value"])
        return _unless_null(lambda values: [element(value) for value in values])
    if kind == "row":
        fields = [
            (part["value"]["fieldName"]["name"], _reader(part["value"]["typeSignature"]))
            for part in inner
        ]
        return _unless_null(
            lambda values: {name: of(v) for (name, of), v in zip(fields, values, strict=True)}
        )
    plain = {
        "decimal": Decimal,
        "varbinary": base64.b64decode,
        "double": float,
        # Its shortest digits; as the number that those 32 bits are.
        "real": lambda digits: struct.unpack("f", struct.pack("f", float(digits)))[0],
        "date": lambda text: Date((date.fromisoformat(text) - _DAY_ZERO).days),
        "timestamp": lambda text: Timestamp(_micros(text)),
        "timestamp with time zone": lambda text: Instant(_micros(text.removesuffix(" UTC"))),
    }
    if kind in plain:
        return _unless_null(plain[kind])
    if kind in ("varchar", "boolean", "tinyint", "smallint", "integer", "bigint"):
        return lambda value: value
    raise TypeError(f"no form for Trino's {kind}")


def _unless_null(read):
    return lambda value: None if value is None else read(value)


def _micros(text: str) -> int:
    since = datetime.fromisoformat(text) - _ZERO
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
