"""PostgreSQL from Debian's packages, with a write-ahead log that Debezium can follow."""

import re
import shutil
import signal
from pathlib import Path

import psycopg
from psycopg import sql

from parts.ports import free_port
from parts.process import Part, wait_until


class Postgres(Part):
    name = "postgres"
    user = "postgres"
    superuser = "postgres"
    password = "unused: trust"
    host = "127.0.0.1"
    # Fast shutdown: PostgreSQL's SIGTERM would wait for every client to leave.
    stop_signal = signal.SIGINT

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()
        self.binaries = _binaries()

    def prepare(self) -> None:
        self.run_once(
            [
                str(self.binaries / "initdb"),
                "-D",
                str(self.data),
                "-U",
                self.superuser,
                "--auth=trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ]  # fmt: skip
        )

    def command(self):
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": "",
            "wal_level": "logical",
            "max_replication_slots": 20,
            "max_wal_senders": 20,
            "timezone": "UTC",
            # The data lives no longer than the test run.
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            # Debezium's sender must not be dropped while the machine compiles.
            "wal_sender_timeout": "5min",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [str(self.binaries / "postgres"), "-D", str(self.data), *options]

    def is_ready(self) -> bool:
        try:
            self.connect().close()
            return True
        except psycopg.OperationalError:
            return False

    def connect(self, database: str = "postgres", autocommit: bool = True) -> psycopg.Connection:
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.superuser,
            dbname=database,
            autocommit=autocommit,
            connect_timeout=10,
        )

    def create_database(self, name: str) -> None:
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def drop_database(self, name: str) -> None:
        with self.connect() as connection:
            statement = "DROP DATABASE IF EXISTS {} WITH (FORCE)"
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def run_sql(self, database: str, statements: str) -> None:
        """Several statements at once, in one transaction."""
        with self.connect(database) as connection:
            connection.execute(statements)

    def drop_slot(self, database: str, slot: str, publication: str) -> None:
        with self.connect(database) as connection:
            name = [slot]

            def idle() -> bool:
                query = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
                return connection.execute(query, name).fetchone() in (None, (False,))

            wait_until(idle, 30, f"replication slot {slot} idle")
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE slot_name = %s",
                name,
            )
            statement = sql.SQL("DROP PUBLICATION IF EXISTS {}")
            connection.execute(statement.format(sql.Identifier(publication)))


def _binaries() -> Path:
    """Debian keeps the server out of PATH, one folder per major version; the newest is taken."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if folders:
        return max(folders, key=lambda path: int(re.sub(r"\D", "", path.parent.name)))
    server = shutil.which("postgres")
    if server is None:
        raise RuntimeError("no PostgreSQL server: run tests/parts/install.sh")
    return Path(server).resolve().parent
