"""Kafka Connect, one distributed worker, with Debezium for PostgreSQL, MariaDB and MySQL, and Avro."""

import json
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import requests

from parts import cache, java
from parts.kafka import Kafka
from parts.mariadb import MariaDB, file_number
from parts.ports import free_port
from parts.postgres import Postgres
from parts.process import Part, PartFailed, wait_until

_HTTP_SECONDS = 30
_PLUGINS = ("debezium-postgres", "debezium-mariadb", "debezium-mysql", "apicurio-converter")
EXAMPLES = Path(__file__).parents[2] / "examples" / "connectors"


class Connect(Part):
    name = "connect"
    # 8 s on an idle machine; several times that when both cores compile.
    start_seconds = 180.0

    def __init__(self, kafka: Kafka, variables: Mapping[str, str] | None = None) -> None:
        """``variables`` of the environment may be asked for by connectors, if named ``SHOP_…``."""
        super().__init__()
        self.kafka = kafka
        self.variables = dict(variables or {})
        self.jars = cache.jars("kafka")
        self.url = f"http://127.0.0.1:{free_port()}"

    @property
    def _settings_file(self):
        return self.dir / "worker.properties"

    def prepare(self) -> None:
        plugins = self.dir / "plugins"
        plugins.mkdir()
        for name in _PLUGINS:
            (plugins / name).symlink_to(cache.jars(name))
        settings = {
            "bootstrap.servers": self.kafka.bootstrap,
            "group.id": "connect",
            "listeners": self.url,
            "rest.advertised.host.name": "127.0.0.1",
            "plugin.path": plugins,
            "plugin.discovery": "hybrid_warn",
            "connector.client.config.override.policy": "All",
            # A connector starts at once, without waiting for workers that may come back.
            "scheduled.rebalance.max.delay.ms": 0,
            # What `wait_caught_up` waits for: Connect writes a connector's position this often.
            "offset.flush.interval.ms": 1000,
            # Rows with large texts: the default ends at 1 MB.
            "producer.max.request.size": 16_777_216,
        }
        for topic in ("config", "offset", "status"):
            settings[f"{topic}.storage.topic"] = f"__connect-{topic}"
            settings[f"{topic}.storage.replication.factor"] = 1
            if topic != "config":
                settings[f"{topic}.storage.partitions"] = 1
        # Without schemas by default; a connector's own configuration may say otherwise. A NULL
        # must not turn into the column's default, which is what Connect does unless told not to.
        for side in ("key", "value"):
            settings[f"{side}.converter"] = "org.apache.kafka.connect.json.JsonConverter"
            settings[f"{side}.converter.schemas.enable"] = "false"
            settings[f"{side}.converter.replace.null.with.default"] = "false"
        # What users of the examples add to their worker.
        providers = (EXAMPLES / "worker.properties").read_text()
        self._settings_file.write_text(java.properties(settings) + providers)

    def command(self):
        main = "org.apache.kafka.connect.cli.ConnectDistributed"
        return java.java(self.jars, main, str(self._settings_file), heap="512m")

    def environment(self):
        return self.variables

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/connectors", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    # Connectors.

    def create_postgres_connector(
        self,
        name: str,
        postgres: Postgres,
        database: str,
        tables: str,
        partitions: int = 1,
        schemas: bool = False,
        running_seconds: float = 90,
        **settings: object,
    ) -> dict[str, str]:
        """Captures ``tables`` (Debezium's ``table.include.list``) into topics ``<name>.<table>``.

        Returns the whole configuration. ``settings`` wins over it; dots in their names are written
        as double underscores (``decimal__handling__mode="string"``).
        """
        identifier = _identifier(name)
        config: dict[str, object] = {
            **self._common(name, postgres, partitions, schemas),
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "database.dbname": database,
            "table.include.list": tables,
            "plugin.name": "pgoutput",
            "slot.name": identifier,
            "publication.name": identifier,
            "publication.autocreate.mode": "filtered",
        }
        config.update(_dotted(settings))
        return self.create_connector(name, config, running_seconds)

    def create_mariadb_connector(
        self,
        name: str,
        mariadb: MariaDB,
        database: str,
        tables: str,
        partitions: int = 1,
        schemas: bool = False,
        running_seconds: float = 90,
        **settings: object,
    ) -> dict[str, str]:
        """Captures ``tables`` (``database.a,database.b``) into topics ``<name>.<database>.<a>``.

        Its own log of table definitions is the topic ``__history-<name>``. Otherwise as
        ``create_postgres_connector``.
        """
        config: dict[str, object] = {
            **self._common(name, mariadb, partitions, schemas),
            "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
            # Of all readers of one binary log each must have its own.
            "database.server.id": 100_000 + zlib.crc32(name.encode()) % 1_000_000,
            "database.include.list": database,
            "table.include.list": tables,
            "include.schema.changes": "true",
            "schema.history.internal.kafka.bootstrap.servers": self.kafka.bootstrap,
            "schema.history.internal.kafka.topic": f"__history-{name}",
            # What `wait_caught_up` needs: a position moves only with a record.
            "heartbeat.interval.ms": 300,
        }
        config.update(_dotted(settings))
        return self.create_connector(name, config, running_seconds)

    @staticmethod
    def _common(
        name: str, database: Postgres | MariaDB, partitions: int, schemas: bool
    ) -> dict[str, object]:
        config: dict[str, object] = {
            "tasks.max": 1,
            "topic.prefix": name,
            "database.hostname": database.host,
            "database.port": database.port,
            "database.user": database.superuser,
            "database.password": database.password,
            "snapshot.mode": "initial",
            # The default polls twice a second; tests have no time for that.
            "poll.interval.ms": 50,
            "topic.creation.default.partitions": partitions,
            "topic.creation.default.replication.factor": 1,
        }
        for side in ("key", "value"):
            config[f"{side}.converter"] = "org.apache.kafka.connect.json.JsonConverter"
            config[f"{side}.converter.schemas.enable"] = str(schemas).lower()
            config[f"{side}.converter.replace.null.with.default"] = "false"
        return config

    def create_connector(
        self, name: str, config: dict[str, object], running_seconds: float = 90
    ) -> dict[str, str]:
        """Creates or changes a connector and waits until it and its tasks run."""
        text = {key: str(value) for key, value in config.items()}
        self._call("PUT", f"/connectors/{name}/config", text)
        self.wait_running(name, running_seconds)
        return text

    def wait_running(self, name: str, seconds: float = 90) -> None:
        def running() -> bool:
            self.check_alive()
            status = self.status(name)
            parts = [status.get("connector", {}), *status.get("tasks", [])]
            for part in parts:
                if part.get("state") == "FAILED":
                    raise PartFailed(f"connector {name} failed:\n{part.get('trace', '')[:4000]}")
            return len(parts) > 1 and all(part.get("state") == "RUNNING" for part in parts)

        try:
            wait_until(running, seconds, f"connector {name} running", every=0.2)
        except TimeoutError as error:
            raise PartFailed(f"{error}: {json.dumps(self.status(name))}\n{self.tail()}") from None

    def wait_caught_up(
        self, name: str, postgres: Postgres, database: str, seconds: float = 120
    ) -> None:
        """Returns when every change committed in the database before the call is in Kafka.

        Snapshot included. A message is written into the write-ahead log, and Connect's stored
        position, which moves only over what the broker has acknowledged, has to reach it. (The
        message itself ends in the topic ``<prefix>.message``.)
        """
        deadline = time.monotonic() + seconds
        slot = self._call("GET", f"/connectors/{name}/config")["slot.name"]
        with postgres.connect(database) as connection:

            def streams() -> bool:
                self.wait_running(name)
                active = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
                return connection.execute(active, [slot]).fetchone() == (True,)

            wait_until(streams, seconds, f"connector {name} past its snapshot")
            (target,) = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
            connection.execute("SELECT pg_logical_emit_message(true, 'lakebed-tests', 'mark')")

        def reached() -> bool:
            self.wait_running(name)
            return any(int(entry["offset"].get("lsn", 0)) >= target for entry in self.offsets(name))

        left = max(deadline - time.monotonic(), 1)
        self._wait_position(name, reached, f"lsn {target}", left)

    def wait_mariadb_caught_up(self, name: str, mariadb: MariaDB, seconds: float = 120) -> None:
        """As ``wait_caught_up``: the stored position reaches the end that the binary log has now."""
        target = mariadb.log_end()

        def position(offset: dict) -> tuple[int, int]:
            return file_number(offset["file"]), int(offset["pos"])

        def reached() -> bool:
            self.wait_running(name)
            # Before and while the snapshot is taken there is none, or one marked as its.
            stored = [entry["offset"] for entry in self.offsets(name)]
            streamed = [o for o in stored if "file" in o and o.get("snapshot") is None]
            if any(position(offset) >= target for offset in streamed):
                return True
            mariadb.mark()
            return False

        self._wait_position(name, reached, f"position {target}", seconds)

    def _wait_position(self, name: str, reached, target: str, seconds: float) -> None:
        try:
            wait_until(reached, seconds, f"connector {name} caught up", every=0.2)
        except TimeoutError as error:
            stored = json.dumps(self.offsets(name))
            raise PartFailed(f"{error}: wanted {target}, stored {stored}\n{self.tail()}") from None

    def delete_connector(
        self, name: str, postgres: Postgres | None = None, database: str = ""
    ) -> None:
        """Removes the connector with its stored position, and its slot and publication if asked.

        Without the position a connector of the same name starts from the beginning.
        """
        config = self._call("GET", f"/connectors/{name}/config")
        self._call("PUT", f"/connectors/{name}/stop")
        wait_until(
            lambda: (
                self.status(name).get("connector", {}).get("state") == "STOPPED"
                and not self.status(name).get("tasks")
            ),
            60,
            f"connector {name} stopped",
        )
        self._call("DELETE", f"/connectors/{name}/offsets")
        self._call("DELETE", f"/connectors/{name}")
        if postgres is not None:
            postgres.drop_slot(database, config["slot.name"], config["publication.name"])

    def status(self, name: str) -> dict:
        response = requests.get(f"{self.url}/connectors/{name}/status", timeout=_HTTP_SECONDS)
        return response.json() if response.status_code == 200 else {}

    def offsets(self, name: str) -> list[dict]:
        return self._call("GET", f"/connectors/{name}/offsets")["offsets"]

    def _call(self, method: str, path: str, body: object = None):
        deadline = time.monotonic() + 60
        while True:
            response = requests.request(
                method, f"{self.url}{path}", json=body, timeout=_HTTP_SECONDS
            )
            if response.status_code < 400:
                return response.json() if response.content else None
            # 409: the worker is rebalancing; 404: it has not read its own topic that far yet.
            again = response.status_code == 409 or (response.status_code == 404 and method != "PUT")
            if not again or time.monotonic() > deadline:
                raise PartFailed(f"{method} {path}: {response.status_code} {response.text[:2000]}")
            time.sleep(0.3)


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name.lower())


def _dotted(settings: dict[str, object]) -> dict[str, object]:
    return {key.replace("__", "."): value for key, value in settings.items()}
