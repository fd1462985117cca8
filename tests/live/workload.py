"""A source database under random load: three tables, every kind of change, one seed.

``composite`` has a key of two columns, ``document`` a large text that PostgreSQL keeps out of line
(so that an update that leaves it alone does not send it), ``mixed`` one column of each common type.
What the tables hold in the end is asked of PostgreSQL; what is counted here is only what was done.
"""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import psycopg

from parts import Postgres

TABLES = ("composite", "document", "mixed")

_CREATE = """
    CREATE TABLE composite (
        region text, number int, name varchar(80), quantity int NOT NULL, note text,
        PRIMARY KEY (region, number)
    );
    CREATE TABLE document (
        id bigint PRIMARY KEY, title text NOT NULL, body text, revision int NOT NULL
    );
    ALTER TABLE document ALTER body SET STORAGE EXTERNAL;
    CREATE TABLE mixed (
        id bigint PRIMARY KEY, price numeric(12,2), ratio numeric(38,10), happened timestamptz,
        written timestamp, day date, payload jsonb, tags text[], numbers int[],
        amounts numeric(10,2)[], flag boolean, weight double precision, factor real,
        small smallint, raw bytea, reference uuid
    );
"""

# In the middle of the load: nullable, without default, so that rows nobody touches stay as they
# were in the events as well.
_EVOLVE = """
    ALTER TABLE mixed ADD COLUMN remark text, ADD COLUMN score numeric(10,3);
    ALTER TABLE composite ADD COLUMN since timestamptz;
"""

# Weights of what a statement does.
_CHANGES = {"insert": 30, "update": 48, "move": 7, "delete": 15}
_ROLLED_BACK = 0.03
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 äß漢🎉\"'\\\n,{}"
_REGIONS = ("eu", "us", "a,b", "ünï", "")


def seed() -> int:
    """``LAKEBED_SEED``, else a new one. Printed, so that a failure can be had again."""
    given = os.environ.get("LAKEBED_SEED")
    chosen = int(given) if given else random.randrange(1 << 32)
    print(f"LAKEBED_SEED={chosen}")
    return chosen


class _Keys:
    """Keys that are there, picked at random in constant time; and some that were there once."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.present: list[tuple] = []
        self._places: dict[tuple, int] = {}
        self.gone: list[tuple] = []

    def add(self, key: tuple) -> None:
        self._places[key] = len(self.present)
        self.present.append(key)

    def pick(self) -> tuple:
        return self._rng.choice(self.present)

    def drop(self, key: tuple) -> None:
        place = self._places.pop(key)
        last = self.present.pop()
        if last != key:
            self.present[place] = last
            self._places[last] = place
        self.gone.append(key)

    def reused(self) -> tuple | None:
        """A key that was deleted or left, now and then; it is absent at the moment."""
        if not self.gone or self._rng.random() > 0.3:
            return None
        key = self.gone.pop(self._rng.randrange(len(self.gone)))
        return None if key in self._places else key

    def copy(self) -> "_Keys":
        other = _Keys(self._rng)
        other.present, other._places = list(self.present), dict(self._places)
        other.gone = list(self.gone)
        return other


class Workload:
    """One thread at a time. ``counts`` has the committed row changes by kind."""

    def __init__(self, postgres: Postgres, database: str, seed: int) -> None:
        self.postgres = postgres
        self.database = database
        self._rng = random.Random(seed)
        self._keys = {table: _Keys(self._rng) for table in TABLES}
        self._next = Counter()
        self._evolved = False
        self.counts: dict[str, Counter] = {table: Counter() for table in TABLES}

    def create(self, rows: int) -> None:
        """The database with ``rows`` rows in all, before anybody captures it."""
        self.postgres.create_database(self.database)
        self.postgres.run_sql(self.database, _CREATE)
        with self.postgres.connect(self.database, autocommit=False) as connection:
            with connection.pipeline():
                for number in range(rows):
                    table = TABLES[number % len(TABLES)]
                    self._insert(connection, table)
                    self.counts[table]["snapshot"] += 1
            connection.commit()

    def run(self, changes: int, per_second: float | None = None, until=lambda: False) -> None:
        """Random transactions until so many rows have changed, or ``until()`` is true."""
        began, done = time.monotonic(), 0
        with self.postgres.connect(self.database, autocommit=False) as connection:
            while done < changes and not until():
                done += self._transaction(connection)
                if per_second is not None:
                    # Pace of the load, not a wait for something.
                    time.sleep(max(0.0, done / per_second - (time.monotonic() - began)))

    def evolve(self) -> None:
        """New columns, which later changes fill."""
        self.postgres.run_sql(self.database, _EVOLVE)
        self._evolved = True

    def records(self, table: str) -> int:
        """Kafka records that Debezium makes of what was done: a delete is followed by a tombstone,
        a new key is a delete, its tombstone and an insert."""
        each = {"snapshot": 1, "insert": 1, "update": 1, "delete": 2, "move": 3}
        return sum(each[kind] * count for kind, count in self.counts[table].items())

    def changes(self) -> int:
        """Rows changed after the snapshot."""
        return sum(sum(c.values()) - c["snapshot"] for c in self.counts.values())

    def _transaction(self, connection: psycopg.Connection) -> int:
        rolled_back = self._rng.random() < _ROLLED_BACK
        before = {table: keys.copy() for table, keys in self._keys.items()} if rolled_back else None
        done: Counter = Counter()
        with connection.pipeline():
            for _ in range(min(60, int(self._rng.paretovariate(0.7)))):
                table = self._rng.choice(TABLES)
                done[table, self._change(connection, table)] += 1
        if rolled_back:
            connection.rollback()
            self._keys = before
            return 0
        connection.commit()
        for (table, kind), count in done.items():
            self.counts[table][kind] += count
        return done.total()

    def _change(self, connection: psycopg.Connection, table: str) -> str:
        kind = self._rng.choices(list(_CHANGES), _CHANGES.values())[0]
        keys = self._keys[table]
        if kind == "insert" or len(keys.present) < 10:
            self._insert(connection, table)
            return "insert"
        key = keys.pick()
        where = " AND ".join(f"{column} = %s" for column in _KEYS[table])
        if kind == "delete":
            connection.execute(f"DELETE FROM {table} WHERE {where}", key)
            keys.drop(key)
            return kind
        changed: dict[str, object] = {}
        if kind == "move":
            new = self._new_key(table)
            changed.update(zip(_KEYS[table], new, strict=True))
            keys.drop(key)
            keys.add(new)
        # A key may move alone, which leaves the large text and all else untouched.
        if kind == "update" or self._rng.random() < 0.5:
            changed.update(self._some(table))
        assignments = ", ".join(f"{column} = %s" for column in changed)
        statement = f"UPDATE {table} SET {assignments} WHERE {where}"
        connection.execute(statement, [*changed.values(), *key])
        return kind

    def _insert(self, connection: psycopg.Connection, table: str) -> None:
        key = self._keys[table].reused() or self._new_key(table)
        row = {**dict(zip(_KEYS[table], key, strict=True)), **self._row(table)}
        slots = ", ".join(["%s"] * len(row))
        statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({slots})"
        connection.execute(statement, list(row.values()))
        self._keys[table].add(key)

    def _new_key(self, table: str) -> tuple:
        self._next[table] += 1
        number = self._next[table]
        if table == "composite":
            return self._rng.choice(_REGIONS), number
        # Far apart and on both sides of zero, beyond what a double holds exactly.
        return (number * (1 << 44) * (-1 if number % 3 == 0 else 1) + number,)

    def _row(self, table: str) -> dict[str, object]:
        columns = dict(_COLUMNS[table])
        if self._evolved:
            columns.update(_NEW_COLUMNS.get(table, {}))
        return {name: make(self._rng) for name, make in columns.items()}

    def _some(self, table: str) -> dict[str, object]:
        """New values for a few columns; the large text is left alone most of the time."""
        row = self._row(table)
        if self._rng.random() < 0.7:
            row.pop("body", None)
        names = self._rng.sample(list(row), self._rng.randint(1, min(4, len(row))))
        return {name: row[name] for name in names}


class InBackground:
    """Runs ``work(stopping)`` in a thread until the block is left; its failure is raised there."""

    def __init__(self, work: Callable[[Callable[[], bool]], None]) -> None:
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=[work], daemon=True)

    def _run(self, work) -> None:
        try:
            work(self._stop.is_set)
        except BaseException as error:
            self._failure = error

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def __enter__(self) -> "InBackground":
        self._thread.start()
        return self

    def __exit__(self, kind, *_) -> None:
        self._stop.set()
        self._thread.join(60)
        if kind is None and self._thread.is_alive():
            raise TimeoutError("the load did not stop within 60 s")
        if kind is None and self._failure is not None:
            raise self._failure


# What values look like.


def _or_null(make, share: float = 0.15):
    return lambda rng: None if rng.random() < share else make(rng)


def _text(longest: int):
    return lambda rng: "".join(rng.choices(_LETTERS, k=rng.randint(0, longest)))


def _body(rng: random.Random) -> str:
    """Above the two kilobytes at which PostgreSQL moves a value out of its row."""
    return rng.randbytes(rng.randint(1200, 2000)).hex()


def _decimal(digits: int, scale: int):
    def make(rng: random.Random) -> str:
        unscaled = rng.randrange(10 ** rng.randint(1, digits))
        text = str(unscaled).rjust(scale + 1, "0")
        return f"{rng.choice(('', '-'))}{text[:-scale]}.{text[-scale:]}"

    return make


def _moment(zone: str):
    # Readers agree on these years; the extremes are in the recordings.
    def make(rng: random.Random) -> str:
        day = f"{rng.randint(1910, 2290)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        clock = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"
        return f"{day} {clock}.{rng.randrange(1_000_000):06}{zone}"

    return make


def _json(rng: random.Random) -> str:
    value = {
        "n": rng.choice([0, -1, 1.5, 12345678901234567890, 1e300]),
        _text(5)(rng): [None, True, {"t": _text(12)(rng)}],
    }
    return json.dumps(value)


def _list(make):
    return lambda rng: [make(rng) for _ in range(rng.randint(0, 4))]


def _double(rng: random.Random) -> float:
    return rng.choice([-0.0, 5e-324, 0.1, rng.uniform(-1e9, 1e9), rng.gauss(0, 1) * 1e200])


_KEYS = {"composite": ("region", "number"), "document": ("id",), "mixed": ("id",)}

_COLUMNS = {
    "composite": {
        "name": _or_null(_text(40)),
        "quantity": lambda rng: rng.randint(-(2**31), 2**31 - 1),
        "note": _or_null(_text(20), 0.5),
    },
    "document": {
        "title": _text(30),
        "body": _or_null(_body, 0.1),
        "revision": lambda rng: rng.randrange(1000),
    },
    "mixed": {
        "price": _or_null(_decimal(12, 2)),
        "ratio": _or_null(_decimal(38, 10)),
        "happened": _or_null(_moment("+02")),
        "written": _or_null(_moment("")),
        "day": _or_null(lambda rng: _moment("")(rng)[:10]),
        "payload": _or_null(_json),
        "tags": _or_null(_list(_or_null(_text(8)))),
        "numbers": _or_null(_list(lambda rng: rng.randint(-(2**31), 2**31 - 1))),
        "amounts": _or_null(_list(_decimal(10, 2))),
        "flag": _or_null(lambda rng: rng.random() < 0.5),
        "weight": _or_null(_double),
        "factor": _or_null(lambda rng: rng.uniform(-1000, 1000)),
        "small": _or_null(lambda rng: rng.randint(-(2**15), 2**15 - 1)),
        "raw": _or_null(lambda rng: rng.randbytes(rng.randint(0, 12))),
        "reference": _or_null(lambda rng: f"{rng.getrandbits(128):032x}"),
    },
}

_NEW_COLUMNS = {
    "composite": {"since": _or_null(_moment("Z"))},
    "mixed": {"remark": _or_null(_text(20)), "score": _or_null(_decimal(10, 3))},
}
