"""Two databases whose tables change their shape while they are written to.

``PostgresSource`` and ``MariaSource`` say the same in two dialects: the tables, the statements of
each step, and how Debezium is told. ``Load`` writes beside all that, in a thread of its own, to
columns that every step leaves alone.
"""

import random
import threading

import workload
from parts import Connect, MariaDB, Postgres
from readers.source import SourceTable, from_mariadb, from_postgres

# Rows that are there from the beginning and are never deleted. Larger ids come, move and go.
STABLE = 40
BODY = 3000

SIGNALS = "id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048)"
_SNAPSHOT = '{"data-collections": ["%s"], "type": "incremental"}'
_CONNECTOR = {
    "incremental__snapshot__chunk__size": 16,
    "notification__enabled__channels": "sink",
    # Truncates are left out by default.
    "skipped__operations": "none",
}


class PostgresSource:
    kind = "postgres"
    prefix = "evolvepg"
    schema = "public"
    # The statements of each step; what they do to rows comes after what they do to columns.
    create = (
        """CREATE TABLE item (id int PRIMARY KEY, touched int NOT NULL DEFAULT 0, n int, f real,
           price numeric(8,2), q numeric(8,2), note text, gone text, body text, list int[])""",
        "ALTER TABLE item ALTER body SET STORAGE EXTERNAL",
        f"""INSERT INTO item SELECT i, 0, i, i / 4.0, i + 0.25, i + 0.5, 'note ' || i, 'gone ' || i,
            repeat(chr(97 + i % 26), {BODY}), ARRAY[i, NULL] FROM generate_series(1, {STABLE}) i""",
        "CREATE TABLE again (id int PRIMARY KEY, a text)",
        "INSERT INTO again VALUES (1, 'one'), (2, 'two'), (3, 'three')",
        "CREATE TABLE rekeyed (id int PRIMARY KEY, v text)",
        "INSERT INTO rekeyed VALUES (1, 'one'), (2, 'two')",
        "CREATE TABLE cleared (id int PRIMARY KEY, v text)",
        "INSERT INTO cleared SELECT i, 'before' FROM generate_series(1, 30) i",
        f"CREATE TABLE signal ({SIGNALS})",
    )
    widen = (
        """ALTER TABLE item ALTER n TYPE bigint, ALTER f TYPE double precision,
           ALTER price TYPE numeric(12,2), ALTER q TYPE numeric(10,4), ALTER list TYPE bigint[]""",
        "UPDATE item SET list = ARRAY[5000000000, id] WHERE id < 9",
    )
    names = ('ALTER TABLE item ADD "a b" text, ADD a_b text, ADD _cdc_op text, ADD _file text',)
    named = "\"a b\" = 'blank', a_b = 'line', _cdc_op = 'mine', _file = 'f'"
    again = (
        "DROP TABLE again",
        "CREATE TABLE again (id int PRIMARY KEY, a int, b text)",
        # A publication knows tables by their number, not by their name.
        f"ALTER PUBLICATION {prefix} ADD TABLE again",
    )
    rekey = ("ALTER TABLE rekeyed ALTER id TYPE varchar(20)",)

    def __init__(self, postgres: Postgres, connect: Connect) -> None:
        self.postgres, self.connect = postgres, connect

    def begin(self) -> None:
        self.postgres.create_database(self.prefix)
        self.run(*self.create)
        tables = ",".join(f"public.{table}" for table in (*TABLES, "signal"))
        self.connect.create_postgres_connector(
            self.prefix, self.postgres, self.prefix, tables, schemas=True,
            signal__data__collection="public.signal",
            notification__sink__topic__name=self.notifications, **_CONNECTOR,
        )  # fmt: skip

    @property
    def notifications(self) -> str:
        return f"{self.prefix}.notifications"

    def topic(self, table: str) -> str:
        return f"{self.prefix}.public.{table}"

    def run(self, *statements: str) -> None:
        with self.connection() as connection:
            for statement in statements:
                connection.execute(statement)

    def connection(self):
        connection = self.postgres.connect(self.prefix)
        connection.prepare_threshold = None
        return connection

    def caught_up(self) -> None:
        self.connect.wait_caught_up(self.prefix, self.postgres, self.prefix)

    def snapshot(self, table: str) -> None:
        data = _SNAPSHOT % f"public.{table}"
        self.run(f"INSERT INTO signal VALUES ('{table}', 'execute-snapshot', '{data}')")

    def source(self, table: str) -> SourceTable:
        with self.connection() as connection:
            return from_postgres(connection, f"public.{table}")

    def end(self) -> None:
        self.connect.delete_connector(self.prefix, self.postgres, self.prefix)
        self.postgres.drop_database(self.prefix)


class MariaSource:
    kind = "mariadb"
    prefix = "evolvemy"
    create = (
        """CREATE TABLE item (id int PRIMARY KEY, touched int NOT NULL DEFAULT 0, n int, f float,
           price decimal(8,2), q decimal(8,2), note text, gone text, body text)""",
        f"""INSERT INTO item SELECT seq, 0, seq, seq / 4, seq + 0.25, seq + 0.5,
            concat('note ', seq), concat('gone ', seq), repeat(char(97 + seq % 26), {BODY})
            FROM seq_1_to_{STABLE}""",
        "CREATE TABLE again (id int PRIMARY KEY, a text)",
        "INSERT INTO again VALUES (1, 'one'), (2, 'two'), (3, 'three')",
        "CREATE TABLE rekeyed (id int PRIMARY KEY, v text)",
        "INSERT INTO rekeyed VALUES (1, 'one'), (2, 'two')",
        "CREATE TABLE cleared (id int PRIMARY KEY, v text)",
        "INSERT INTO cleared SELECT seq, 'before' FROM seq_1_to_30",
        f"CREATE TABLE `signal` ({SIGNALS})",
    )
    widen = (
        "ALTER TABLE item MODIFY n bigint, MODIFY f double, MODIFY price decimal(12,2),"
        " MODIFY q decimal(10,4)",
    )
    names = ("ALTER TABLE item ADD `a b` text, ADD `a_b` text, ADD `_cdc_op` text, ADD `_file` text",)
    named = "`a b` = 'blank', a_b = 'line', _cdc_op = 'mine', _file = 'f'"
    again = ("DROP TABLE again", "CREATE TABLE again (id int PRIMARY KEY, a int, b text)")
    rekey = ("ALTER TABLE rekeyed MODIFY id varchar(20)",)

    def __init__(self, mariadb: MariaDB, connect: Connect) -> None:
        self.mariadb, self.connect = mariadb, connect

    def begin(self) -> None:
        self.mariadb.create_database(self.prefix)
        self.run(*self.create)
        tables = ",".join(f"{self.prefix}.{table}" for table in (*TABLES, "signal"))
        self.connect.create_mariadb_connector(
            self.prefix, self.mariadb, self.prefix, tables, schemas=True,
            signal__data__collection=f"{self.prefix}.signal",
            notification__sink__topic__name=self.notifications, **_CONNECTOR,
        )  # fmt: skip

    @property
    def notifications(self) -> str:
        return f"{self.prefix}.notifications"

    def topic(self, table: str) -> str:
        return f"{self.prefix}.{self.prefix}.{table}"

    def run(self, *statements: str) -> None:
        self.mariadb.run_sql(self.prefix, *statements)

    def connection(self):
        return self.mariadb.connect(self.prefix)

    def caught_up(self) -> None:
        self.connect.wait_mariadb_caught_up(self.prefix, self.mariadb)

    def snapshot(self, table: str) -> None:
        data = _SNAPSHOT % f"{self.prefix}.{table}"
        self.run(f"INSERT INTO `signal` VALUES ('{table}', 'execute-snapshot', '{data}')")

    def source(self, table: str) -> SourceTable:
        with self.connection() as connection:
            return from_mariadb(connection, f"{self.prefix}.{table}")

    def end(self) -> None:
        self.connect.delete_connector(self.prefix)
        self.mariadb.drop_database(self.prefix)


Source = PostgresSource | MariaSource

# Of two names that are the same in silver the later gets a suffix, and so do ours and Iceberg's.
# (Names that differ by case alone are refused by Debezium.)
SILVER_NAMES = {"a_b": "a_b__2", "_cdc_op": "_cdc_op__2", "_file": "_file__2"}

TABLES = ("item", "again", "rekeyed", "cleared")


class Load:
    """Writes to ``item`` until told to stop: updates that leave the long text alone, inserts,
    deletes and new keys. A ``with`` block; an error of the thread is raised at its end."""

    def __init__(self, source: Source, moves: bool = True, seconds_each: float = 0.005) -> None:
        self._source = source
        self._moves = moves
        self._pause = seconds_each
        self._rng = random.Random(workload.seed())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: BaseException | None = None
        self.changes = 0

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(60)
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            raise TimeoutError("the load does not end")

    def _run(self) -> None:
        try:
            with self._source.connection() as connection, connection.cursor() as cursor:
                cursor.execute(f"SELECT id FROM item WHERE id > {STABLE}")
                coming = [key for (key,) in cursor.fetchall()]
                while not self._stop.wait(self._pause):
                    self._change(cursor, coming)
                    self.changes += 1
        except BaseException as error:
            self._error = error

    def _change(self, cursor, coming: list[int]) -> None:
        kind = self._rng.random()
        touch = "UPDATE item SET touched = touched + 1 WHERE id = %s"
        if kind < 0.5 or not coming:
            cursor.execute(touch, [self._rng.randint(1, STABLE)])
        elif kind < 0.6:
            cursor.execute(touch, [self._rng.choice(coming)])
        if kind >= 0.8 or len(coming) < 5:
            key = self._new_key()
            cursor.execute(
                "INSERT INTO item (id, touched, body) VALUES (%s, 0, %s)", [key, "b" * BODY]
            )
            coming.append(key)
        elif kind >= 0.7:
            cursor.execute("DELETE FROM item WHERE id = %s", [self._taken(coming)])
        elif kind >= 0.6 and self._moves:
            key = self._new_key()
            cursor.execute("UPDATE item SET id = %s WHERE id = %s", [key, self._taken(coming)])
            coming.append(key)

    def _new_key(self) -> int:
        return self._rng.randrange(1 << 20, 1 << 31)

    def _taken(self, coming: list[int]) -> int:
        return coming.pop(self._rng.randrange(len(coming)))
