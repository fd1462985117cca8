"""The database of the connector examples, at PostgreSQL and at MariaDB, and changes without end.

The connectors and what they need in the database are the files in ``examples/connectors``, as they stand.
"""

import json
import random
import time

from parts import Connect, MariaDB, Postgres
from parts.connect import EXAMPLES
from readers.source import SourceTable, from_mariadb, from_postgres

DATABASE = "shop"
TABLES = ("customers", "orders")

_POSTGRES = """
    CREATE TABLE customers (
        id bigint PRIMARY KEY, name text NOT NULL, letter text, since timestamptz, born date,
        balance numeric(12,2), tags text[], reference uuid
    );
    ALTER TABLE customers ALTER letter SET STORAGE EXTERNAL;
    CREATE TABLE orders (
        id bigint, line int, customer bigint, quantity int NOT NULL, price numeric(10,2),
        note text, placed timestamp, weight double precision, raw bytea, paid boolean,
        PRIMARY KEY (id, line)
    );
"""
_MARIADB = (
    "CREATE TABLE customers (id bigint PRIMARY KEY, name varchar(60) NOT NULL, letter mediumtext,"
    " since timestamp(6) NULL, born date, balance decimal(12,2), kind enum('new','old'))",
    "CREATE TABLE orders (id bigint, line int, customer bigint, quantity int NOT NULL,"
    " price decimal(10,2), note varchar(200), placed datetime(6), weight double, raw varbinary(20),"
    " PRIMARY KEY (id, line))",
)


class Shop:
    """One of the two. ``change`` makes a transaction of a few dozen rows, of every kind."""

    prefix: str
    connector: str

    def __init__(self, connect: Connect, seed: int) -> None:
        self.connect = connect
        self.rng = random.Random(seed)
        self.customers = 0
        self.orders = 0
        self.statements = 0

    def topic(self, table: str) -> str:
        raise NotImplementedError

    def begin(self) -> None:
        """The tables with their first rows, and the example's connector."""
        raise NotImplementedError

    def run(self, *statements: str) -> None:
        raise NotImplementedError

    def start_connector(self) -> None:
        config = json.loads((EXAMPLES / f"{self.connector}.json").read_text())
        self.connect.create_connector(self.prefix, config)

    def fill(self) -> None:
        for _ in range(8):
            self.run(*self._inserts(50))

    def change(self) -> None:
        statements = [*self._inserts(self.rng.randint(1, 12)), *self._updates(), *self._deletes()]
        self.run(*statements)
        self.statements += len(statements)

    def load(self, stopping, per_second: float) -> None:
        """Until ``stopping()``, at a pace that readers on the same two cores can follow."""
        while not stopping():
            began = time.monotonic()
            self.change()
            time.sleep(max(0.0, 1 / per_second - (time.monotonic() - began)))

    def _inserts(self, count: int) -> list[str]:
        customers, orders = [], []
        for _ in range(count):
            self.customers += 1
            customers.append(self._customer(self.customers))
            for line in range(self.rng.randint(0, 4)):
                self.orders += 1
                orders.append(self._order(self.orders, line))
        made = [f"INSERT INTO customers VALUES {', '.join(customers)}"]
        return made + ([f"INSERT INTO orders VALUES {', '.join(orders)}"] if orders else [])

    def _updates(self) -> list[str]:
        some = self._some(self.orders)
        one = self.rng.randint(1, self.customers)
        moved = -one * 1_000_003
        return [
            f"UPDATE orders SET quantity = quantity + 1, note = NULL WHERE id IN ({some})",
            f"UPDATE orders SET price = price * 1.5 + 0.01 WHERE id IN ({some}) AND price < 100000",
            f"UPDATE customers SET balance = balance - 1, name = 'Zoë 漢 {self.customers}'"
            f" WHERE id IN ({self._some(self.customers)})",
            # The long text stays as it is, which is why it is not sent.
            f"DELETE FROM customers WHERE id = {moved}",
            f"UPDATE customers SET id = {moved} WHERE id = {one}",
        ]

    def _deletes(self) -> list[str]:
        gone = f"DELETE FROM orders WHERE id IN ({self._some(self.orders)})"
        return [gone, f"DELETE FROM customers WHERE id = {self.rng.randint(1, self.customers)}"]

    def _some(self, last: int) -> str:
        """Mostly recent ones."""
        near = [self.rng.randint(max(1, last - 300), last) for _ in range(9)]
        return ", ".join(map(str, [*near, self.rng.randint(1, last)]))

    def _customer(self, number: int) -> str:
        raise NotImplementedError

    def _order(self, number: int, line: int) -> str:
        raise NotImplementedError

    def _moment(self) -> str:
        return f"'20{self.rng.randint(10, 35)}-0{self.rng.randint(1, 9)}-11 02:03:04.{self.rng.randint(0, 999_999):06}'"

    def _letter(self) -> str:
        return f"'{self.rng.getrandbits(64):x}{'é' * self.rng.choice([0, 10, 4000])}'"


class PostgresShop(Shop):
    prefix = "shop"
    connector = "postgres"

    def __init__(self, postgres: Postgres, connect: Connect, seed: int) -> None:
        super().__init__(connect, seed)
        self.postgres = postgres

    def topic(self, table: str) -> str:
        return f"{self.prefix}.public.{table}"

    def begin(self) -> None:
        self.postgres.create_database(DATABASE)
        self.run(_POSTGRES)
        self.fill()
        self.run((EXAMPLES / "postgres.sql").read_text())
        self.start_connector()

    def run(self, *statements: str) -> None:
        with self.postgres.connect(DATABASE, autocommit=False) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def caught_up(self) -> None:
        self.connect.wait_caught_up(self.prefix, self.postgres, DATABASE)

    def source(self, table: str) -> SourceTable:
        with self.postgres.connect(DATABASE) as connection:
            return from_postgres(connection, f"public.{table}")

    def end(self) -> None:
        self.connect.delete_connector(self.prefix, self.postgres, DATABASE)
        self.postgres.drop_database(DATABASE)
        with self.postgres.connect() as connection:
            connection.execute("DROP ROLE debezium")

    def _customer(self, number: int) -> str:
        return (
            f"({number}, 'Ann {number}', {self._letter()}, {self._moment()}, '1970-01-01',"
            f" {number}.25, '{{\"a,b\",NULL,ü}}', md5('{number}')::uuid)"
        )

    def _order(self, number: int, line: int) -> str:
        return (
            f"({number}, {line}, {number % 97}, 1, {number % 1000}.50, 'as ordered',"
            f" {self._moment()}, {number} / 7.0, '\\x00{number % 256:02x}', {number % 3 == 0})"
        )


class MariaShop(Shop):
    prefix = "shop_mysql"
    connector = "mysql"

    def __init__(self, mariadb: MariaDB, connect: Connect, seed: int) -> None:
        super().__init__(connect, seed)
        self.mariadb = mariadb

    def topic(self, table: str) -> str:
        return f"{self.prefix}.{DATABASE}.{table}"

    def begin(self) -> None:
        self.mariadb.create_database(DATABASE)
        self.run(*_MARIADB)
        self.fill()
        text = (EXAMPLES / "mysql.sql").read_text()
        code = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
        self.run(*(part for part in code.split(";") if part.strip()))
        self.start_connector()

    def run(self, *statements: str) -> None:
        with self.mariadb.connect(DATABASE, autocommit=False) as connection:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
            connection.commit()

    def caught_up(self) -> None:
        self.connect.wait_mariadb_caught_up(self.prefix, self.mariadb)

    def source(self, table: str) -> SourceTable:
        with self.mariadb.connect() as connection:
            return from_mariadb(connection, f"{DATABASE}.{table}")

    def end(self) -> None:
        self.connect.delete_connector(self.prefix)
        self.mariadb.drop_database(DATABASE)
        self.mariadb.run_sql(None, "DROP USER 'debezium'@'%'")

    def _customer(self, number: int) -> str:
        return (
            f"({number}, 'Ann {number}', {self._letter()}, {self._moment()}, '1970-01-01',"
            f" {number}.25, 'new')"
        )

    def _order(self, number: int, line: int) -> str:
        return (
            f"({number}, {line}, {number % 97}, 1, {number % 1000}.50, 'as ordered',"
            f" {self._moment()}, {number} / 8, x'00{number % 256:02x}')"
        )
