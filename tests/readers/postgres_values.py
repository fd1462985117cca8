"""What a PostgreSQL value is, told from the server's own text for it and the name of its type.

``source`` reads that text, ``silver`` a reader's value of the same column; both give one comparable
form, so that two values are equal exactly when their forms are. A silver column may hold a value
in more than one shape (a number as decimal or as its digits, a moment as timestamp or as ISO text):
which shapes a table used is reported by the comparison.
"""

import base64
import json
import re
import struct
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from readers.rows import Date, Instant, Time, Timestamp


class Unreadable(ValueError):
    """Silver holds something that cannot be a value of this type."""


@dataclass(frozen=True)
class Kind:
    name: str
    length: int = 0
    element: "Kind | None" = None


_KINDS = {
    "smallint": "integer",
    "integer": "integer",
    "bigint": "integer",
    "oid": "integer",
    "numeric": "numeric",
    "money": "money",
    "real": "real",
    "double precision": "double",
    "boolean": "boolean",
    "character": "char",
    "bytea": "bytes",
    "json": "json",
    "jsonb": "json",
    "date": "date",
    "time without time zone": "time",
    "time with time zone": "timetz",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "instant",
    "interval": "interval",
    "bit": "bits",
    "bit varying": "bits",
    "inet": "inet",
    "text": "text",
    "character varying": "text",
    "name": "text",
    "uuid": "text",
    "xml": "text",
    "citext": "text",
    "hstore": "hstore",
    **{shape: shape for shape in ("point", "line", "lseg", "box", "path", "polygon", "circle")},
}


def kind(type_name: str) -> Kind:
    """From a type as ``format_type`` prints it. What is not listed is compared as text."""
    if type_name.endswith("[]"):
        return Kind("array", element=kind(type_name[:-2]))
    length = re.search(r"\((\d+)", type_name)
    plain = re.sub(r"\([^)]*\)", "", type_name)
    return Kind(_KINDS.get(plain, "other"), int(length[1]) if length else 0)


def source(of: Kind, text: str | None) -> object:
    if text is None:
        return None
    if of.name == "array":
        return tuple(_item_of_source(of, item) for item in _array_items(text))
    return _SOURCE[of.name](text, of)


def _item_of_source(of: Kind, item: str | None) -> object:
    # An array of arrays is of its element's type as well; no number begins with a brace.
    is_array = of.element.name in ("integer", "numeric") and (item or "").startswith("{")
    return source(of if is_array else of.element, item)


def silver(of: Kind, value: object) -> object:
    if value is None:
        return None
    if of.name == "array":
        items = json.loads(value, parse_float=Decimal) if isinstance(value, str) else value
        if not isinstance(items, list):
            raise Unreadable(f"{value!r} is no list")
        return tuple(silver(of.element, item) for item in items)
    return _SILVER[of.name](value, of)


def equal(of: Kind, ours: object, theirs: object) -> bool:
    """``ours`` from ``source``, ``theirs`` from ``silver``."""
    if of.name == "array" and ours is not None and theirs is not None:
        pairs = zip(ours, theirs)
        return len(ours) == len(theirs) and all(equal(of.element, a, b) for a, b in pairs)
    if of.name == "interval" and isinstance(theirs, int):
        return ours is not None and _interval_micros(ours) == theirs
    if of.name == "numeric" and isinstance(theirs, float):
        # Debezium was asked for doubles, so the nearest double is all that can be there.
        return ours is not None and float(ours) == theirs
    return ours == theirs


# Numbers.


def _integer(value: object, _: Kind) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unreadable(f"{value!r} is no integer")
    return value


def _number(text: str) -> object:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return number if number.is_finite() else str(number)


def _numeric(value: object, _: Kind) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, str, float, Decimal)):
        raise Unreadable(f"{value!r} is no number")
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else _number(str(value))
    return _number(str(value))


def _float_bits(number: float, form: str) -> object:
    """Tells 0.0 from -0.0, and makes every NaN the same."""
    return "NaN" if number != number else struct.pack(form, number)


def _floating(form: str):
    def read(value: object, _: Kind) -> object:
        if isinstance(value, bool) or not isinstance(value, (float, int)):
            raise Unreadable(f"{value!r} is no floating point number")
        return _float_bits(float(value), form)

    return read


# Times.

_MOMENT = re.compile(
    r"(?P<year>[+-]?\d+)-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?:[ T](?P<time>[\d:.]+))?(?P<zone>Z|[+-][\d:]+)?(?P<bc> BC)?"
)
_DAY = 86_400_000_000


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the Gregorian calendar, run backwards before it was invented."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + day_of_year - 719_468


def _clock(text: str) -> int:
    """Microseconds of ``hh:mm[:ss[.ffffff]]``."""
    hours, minutes, *rest = text.split(":")
    whole, _, fraction = (rest[0] if rest else "0").partition(".")
    if len(fraction) > 6 and fraction[6:].strip("0"):
        raise Unreadable(f"{text!r} is finer than a microsecond")
    seconds = (int(hours) * 60 + int(minutes)) * 60 + int(whole)
    return seconds * 1_000_000 + int(fraction[:6].ljust(6, "0"))


def _zone(text: str | None) -> int:
    """Microseconds that ``Z`` or ``+hh[:mm[:ss]]`` is ahead of UTC."""
    if text in (None, "Z"):
        return 0
    amount = text[1:] if ":" in text else f"{text[1:]}:00"
    return _clock(amount) * (-1 if text[0] == "-" else 1)


def _moment(text: str) -> int | str:
    """Microseconds since 1970, the zone applied; infinities stay text."""
    if text in ("infinity", "-infinity"):
        return text
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise Unreadable(f"{text!r} is no date or timestamp")
    year = int(match["year"])
    if match["bc"]:
        year = 1 - year  # the year before 1 is 0 in ISO's way of counting, 1 BC in words
    days = _days(year, int(match["month"]), int(match["day"]))
    return days * _DAY + (_clock(match["time"]) if match["time"] else 0) - _zone(match["zone"])


def _date(value: object, _: Kind) -> object:
    if isinstance(value, Date):
        return value.days * _DAY
    if isinstance(value, str):
        return _moment(value)
    return _integer(value, _) * _DAY  # an element of an array kept as JSON text


def _timestamp(value: object, _: Kind) -> object:
    if isinstance(value, Timestamp):
        return value.micros
    if isinstance(value, str):
        return _moment(value)
    raise Unreadable(f"{value!r} is no timestamp without zone")


def _instant(value: object, _: Kind) -> object:
    if isinstance(value, Instant):
        return value.micros
    if isinstance(value, str):
        return _moment(value)
    raise Unreadable(f"{value!r} is no timestamp with zone")


def _time(value: object, _: Kind) -> object:
    if isinstance(value, Time):
        return value.micros
    if isinstance(value, str):
        return _clock(value.removesuffix("Z"))
    raise Unreadable(f"{value!r} is no time of day")


def _timetz(value: object, _: Kind) -> object:
    """Debezium sends the same moment of the day in UTC; the zone is not kept."""
    match = re.fullmatch(r"([\d:.]+)(Z|[+-][\d:]+)?", value) if isinstance(value, str) else None
    if match is None:
        raise Unreadable(f"{value!r} is no time of day with zone")
    return (_clock(match[1]) - _zone(match[2])) % _DAY


_ISO_INTERVAL = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)D)?(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?[\d.]+)S)?)?"
)


def _interval_text(text: str, _: Kind) -> object:
    """PostgreSQL's own style: ``1 year 2 mons -3 days -04:05:06.789``. (months, days, micros)"""
    months = days = micros = 0
    words = text.split()
    while words:
        word = words.pop(0)
        if ":" in word:
            micros = _clock(word.lstrip("+-")) * (-1 if word[0] == "-" else 1)
            continue
        unit = words.pop(0).rstrip("s")
        months += int(word) * {"year": 12, "mon": 1}.get(unit, 0)
        days += int(word) * {"day": 1}.get(unit, 0)
    return months, days, micros


def _interval(value: object, _: Kind) -> object:
    """Text in ISO's form, or Debezium's microseconds, in which a year has 365.25 days."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _ISO_INTERVAL.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Unreadable(f"{value!r} is no interval")
    years, months, days, hours, minutes = (int(part or 0) for part in match.groups()[:5])
    seconds = Decimal(match[6] or 0)
    micros = (hours * 60 + minutes) * 60_000_000 + int(seconds * 1_000_000)
    return years * 12 + months, days, micros


def _interval_micros(parts: tuple[int, int, int]) -> int:
    months, days, micros = parts
    return months * 2_629_800_000_000 + days * _DAY + micros


# Text, bytes and the rest.


def _other(value: object, of: Kind) -> object:
    """Enums, ranges and the like; or a domain over a number, whose name does not say so."""
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return str(value)
    return _text(value, of)


def _text(value: object, _: Kind) -> object:
    if not isinstance(value, str):
        raise Unreadable(f"{value!r} is no text")
    return value


def _padded(text: object, of: Kind) -> object:
    """The server's cast to text drops the blanks that belong to a char(n)."""
    return _text(text, of).ljust(of.length or 1)


def _inet(text: object, of: Kind) -> object:
    """A mask of a single host is left out by the type's own output, not by its cast to text."""
    text = _text(text, of)
    return re.sub(r"/128$" if ":" in text else r"/32$", "", text)


def _boolean(value: object, _: Kind) -> object:
    if not isinstance(value, bool):
        raise Unreadable(f"{value!r} is no boolean")
    return value


def _bytes(value: object, _: Kind) -> object:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise Unreadable(f"{value!r} is no bytes")
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise Unreadable(f"{value!r} is no base64") from None


def _json(value: object, _: Kind) -> object:
    """As jsonb compares: order, space and the notation of numbers do not count."""
    if not isinstance(value, str):
        raise Unreadable(f"{value!r} is no JSON text")
    try:
        return "json", _frozen(json.loads(value, parse_float=Decimal, parse_int=Decimal))
    except json.JSONDecodeError:
        raise Unreadable(f"{value!r} is no JSON") from None


def _frozen(value: object) -> object:
    if isinstance(value, bool):
        return "bool", value  # Python holds True for equal to 1
    if isinstance(value, list):
        return "list", tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return "object", frozenset((key, _frozen(item)) for key, item in value.items())
    return value


_PAIR = re.compile(r'"((?:[^"\\]|\\.)*)"=>(?:"((?:[^"\\]|\\.)*)"|(NULL))(?:, |$)')


def _hstore_of_source(text: str, _: Kind) -> object:
    def plain(quoted: str | None) -> str | None:
        return None if quoted is None else re.sub(r"\\(.)", r"\1", quoted)

    pairs = list(_PAIR.finditer(text))
    assert "".join(pair[0] for pair in pairs) == text, text
    return frozenset((plain(pair[1]), plain(pair[2])) for pair in pairs)


def _hstore(value: object, of: Kind) -> object:
    try:
        return frozenset(json.loads(_text(value, of)).items())
    except (AttributeError, json.JSONDecodeError):
        raise Unreadable(f"{value!r} is no object") from None


# Geometry: the numbers that the server prints, and whether a path is closed.


def _shape_of_source(text: str, of: Kind) -> object:
    numbers = tuple(float(number) for number in re.findall(r"-?[\d.]+(?:e[-+]?\d+)?", text))
    return of.name == "path" and text.startswith("("), numbers


def _shape(value: object, of: Kind) -> object:
    try:
        told = json.loads(_text(value, of))
        points = _well_known(base64.b64decode(told["wkb"])) if "wkb" in told else []
        if of.name == "line":
            numbers = [told["a"], told["b"], told["c"]]
        elif of.name == "circle":
            numbers = [told["center"]["x"], told["center"]["y"], told["radius"]]
        else:
            # A box comes corner by corner, of which the server names two; a ring ends where it began.
            corners = {"box": points[0:3:2], "polygon": points[:-1]}.get(of.name, points)
            numbers = [number for point in corners for number in point]
        if of.name == "point" and [(told["x"], told["y"])] != points:
            raise Unreadable(f"{value!r} is two points")
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise Unreadable(f"{value!r} is no {of.name}: {error}") from None
    closed = of.name == "path" and told.get("extensions", {}).get("closed") == "true"
    return closed, tuple(float(number) for number in numbers)


def _well_known(data: bytes) -> list[tuple[float, float]]:
    """The points of a point, a line or a polygon's only ring."""
    order = "<" if data[0] else ">"
    (kind,) = struct.unpack_from(f"{order}I", data, 1)
    at = 5
    if kind & 0xFF == 3:
        (rings,) = struct.unpack_from(f"{order}I", data, at)
        assert rings == 1, rings
        at += 4
    count = 1
    if kind & 0xFF != 1:
        (count,) = struct.unpack_from(f"{order}I", data, at)
        at += 4
    assert len(data) == at + 16 * count, data
    return [struct.unpack_from(f"{order}dd", data, at + 16 * index) for index in range(count)]


_SHAPES = ("point", "line", "lseg", "box", "path", "polygon", "circle")


def _bits_of_source(text: str, of: Kind) -> object:
    return int(text or "0", 2)


def _bits(value: object, _: Kind) -> object:
    """As a number: Debezium's little-endian bytes do not say how many bits there were."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, bytes):
        return int.from_bytes(value, "little")
    if isinstance(value, str) and not value.strip("01"):
        return int(value or "0", 2)
    return int.from_bytes(_bytes(value, _), "little")


def _array_items(text: str) -> list[str | None]:
    """The elements of an array literal. An inner array comes back as its own literal."""
    body = text[text.index("{") + 1 : -1]  # a lower bound other than 1 stands in front: [0:1]=
    items: list[str | None] = []
    at = 0
    while at < len(body):
        item, quoted, depth = "", False, 0
        while at < len(body) and (body[at] != "," or depth):
            character = body[at]
            if character == '"' and not depth:
                quoted = True
                at += 1
                while body[at] != '"':
                    at += body[at] == "\\"
                    item += body[at]
                    at += 1
            else:
                depth += (character == "{") - (character == "}")
                item += character
            at += 1
        at += 1
        items.append(None if item == "NULL" and not quoted else item)
    return items


_SOURCE = {
    "integer": lambda text, _: int(text),
    "numeric": lambda text, _: _number(text),
    "money": lambda text, _: _number(re.sub(r"[^\d.-]", "", text)),
    "real": lambda text, _: _float_bits(float(text), "<f"),
    "double": lambda text, _: _float_bits(float(text), "<d"),
    "boolean": lambda text, _: text in ("t", "true"),
    "char": _padded,
    "bytes": lambda text, _: bytes.fromhex(text.removeprefix("\\x")),
    "json": _json,
    "date": lambda text, _: _moment(text),
    "time": lambda text, _: _clock(text),
    "timetz": _timetz,
    "timestamp": lambda text, _: _moment(text),
    "instant": lambda text, _: _moment(text),
    "interval": _interval_text,
    "bits": _bits_of_source,
    "inet": _inet,
    "text": lambda text, _: text,
    "hstore": _hstore_of_source,
    **dict.fromkeys(_SHAPES, _shape_of_source),
    "other": lambda text, _: text,
}

_SILVER = {
    "integer": _integer,
    "numeric": _numeric,
    "money": _numeric,
    "real": _floating("<f"),
    "double": _floating("<d"),
    "boolean": _boolean,
    "char": _text,
    "bytes": _bytes,
    "json": _json,
    "date": _date,
    "time": _time,
    "timetz": _timetz,
    "timestamp": _timestamp,
    "instant": _instant,
    "interval": _interval,
    "bits": _bits,
    "inet": _inet,
    "text": _text,
    "hstore": _hstore,
    **dict.fromkeys(_SHAPES, _shape),
    "other": _other,
}
