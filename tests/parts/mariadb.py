"""MariaDB from Debian's packages, with a row-based binary log that Debezium can follow."""

import shutil
from pathlib import Path

import pymysql

from parts.ports import free_port
from parts.process import Part

# Where `mark` writes, so that the binary log goes on although nobody changes anything else.
_MARKS = "lakebed_marks"


class MariaDB(Part):
    name = "mariadb"
    # The package of the bare server makes no user of its own, and the server refuses root.
    user = "nobody"
    superuser = "root"
    password = ""
    host = "127.0.0.1"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()
        self.binary = _binary()

    def prepare(self) -> None:
        self.run_once(
            [
                "mariadb-install-db", "--no-defaults", f"--datadir={self.data}",
                # A password that is empty, by TCP as well.
                "--auth-root-authentication-method=normal", "--skip-test-db",
            ]
        )  # fmt: skip

    def command(self):
        settings = {
            "datadir": self.data,
            "socket": self.data / "socket",
            "pid-file": self.data / "pid",
            "bind-address": self.host,
            "port": self.port,
            "skip-name-resolve": "ON",
            "server-id": 1,
            "log-bin": "binlog",
            "binlog-format": "ROW",
            "binlog-row-image": "FULL",
            "binlog-row-metadata": "FULL",
            "gtid-strict-mode": "ON",
            "character-set-server": "utf8mb4",
            "default-time-zone": "+00:00",
            # The data lives no longer than the test run.
            "sync-binlog": 0,
            "innodb-flush-log-at-trx-commit": 0,
            "innodb-buffer-pool-size": "64M",
            "innodb-log-file-size": "32M",
            "performance-schema": "OFF",
            # A statement that waits for a lock for a minute is a fault of the test.
            "lock-wait-timeout": 60,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [self.binary, "--no-defaults", *options]

    def is_ready(self) -> bool:
        try:
            self.connect().close()
            return True
        except pymysql.err.OperationalError:
            return False

    def connect(self, database: str | None = None, autocommit: bool = True) -> pymysql.Connection:
        """Usable in a ``with`` block, which closes it."""
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.superuser,
            database=database,
            autocommit=autocommit,
            charset="utf8mb4",
            connect_timeout=10,
        )

    def create_database(self, name: str) -> None:
        self.run_sql(None, f"CREATE DATABASE `{name}`")

    def drop_database(self, name: str) -> None:
        self.run_sql(None, f"DROP DATABASE IF EXISTS `{name}`")

    def run_sql(self, database: str | None, *statements: str) -> None:
        """One statement after the other, each in a transaction of its own."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def log_end(self) -> tuple[int, int]:
        """How far the binary log is: the number of the file, and the position in it."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW MASTER STATUS")
            file, position, *_ = cursor.fetchone()
        return file_number(file), position

    def mark(self) -> None:
        """Writes a row that no connector captures."""
        self.run_sql(
            None,
            f"CREATE DATABASE IF NOT EXISTS {_MARKS}",
            f"CREATE TABLE IF NOT EXISTS {_MARKS}.mark (number int PRIMARY KEY)",
            f"INSERT INTO {_MARKS}.mark VALUES (1) ON DUPLICATE KEY UPDATE number = number + 1",
            f"DELETE FROM {_MARKS}.mark",
        )


def file_number(name: str) -> int:
    """``binlog.000003`` is 3. Beyond a million the digits get more, so texts do not compare."""
    return int(name.rsplit(".", 1)[1])


def _binary() -> str:
    # Not in everyone's PATH.
    found = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
    if not Path(found).exists() or shutil.which("mariadb-install-db") is None:
        raise RuntimeError("no MariaDB server: run tests/parts/install.sh")
    return found
