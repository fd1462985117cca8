"""Apache Kafka, one broker in KRaft mode, with a plain and a SASL_SSL listener, both always on."""

from functools import cached_property

from confluent_kafka.admin import AdminClient

from parts import cache, certificates, java
from parts.ports import free_port
from parts.process import Part

_SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


class Kafka(Part):
    name = "kafka"
    # 4 s on an idle machine; several times that when both cores compile.
    start_seconds = 120.0
    username = "lakebed"
    password = "lakebed-test-secret"

    def __init__(self) -> None:
        super().__init__()
        self.jars = cache.jars("kafka")
        self.port, self.sasl_port, self.controller_port = free_port(), free_port(), free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.sasl_bootstrap = f"127.0.0.1:{self.sasl_port}"
        self.ca_file = self.dir / "ca.pem"

    @cached_property
    def admin(self) -> AdminClient:
        """Kept, because an admin client that goes out of scope drops the requests it has sent."""
        return AdminClient({**self.client(), "log_level": "2"})

    def client(self, sasl: bool = False) -> dict[str, str]:
        """librdkafka's settings to reach this broker."""
        if not sasl:
            return {"bootstrap.servers": self.bootstrap}
        return {
            "bootstrap.servers": self.sasl_bootstrap,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": self.username,
            "sasl.password": self.password,
            "ssl.ca.location": str(self.ca_file),
        }

    def lakebed_config(self, sasl: bool = False) -> dict:
        """The ``kafka`` section of a Lakebed configuration, without the group id.

        The secrets are references; ``Lakebed`` sets their variables.
        """
        if not sasl:
            return {"bootstrap_servers": self.bootstrap}
        return {
            "bootstrap_servers": self.sasl_bootstrap,
            "security": {
                "protocol": "SASL_SSL",
                "mechanism": "SCRAM-SHA-512",
                "username": "${env:KAFKA_USER}",
                "password": "${env:KAFKA_PASSWORD}",
                "ca_file": str(self.ca_file),
            },
        }

    @property
    def _settings_file(self):
        return self.dir / "broker.properties"

    def prepare(self) -> None:
        _, store = certificates.make(self.dir)
        self._settings_file.write_text(java.properties(self._settings(store)))
        # Formatting prints the SCRAM records, salt and stored key, so its output is not kept.
        scram = f"[name={self.username},password={self.password}]"
        command = java.java(
            self.jars, "kafka.tools.StorageTool", "format",
            "-t", "lakebedTestCluster0001", "-c", str(self._settings_file),
            "--add-scram", f"SCRAM-SHA-512={scram}", "--add-scram", f"SCRAM-SHA-256={scram}",
        )  # fmt: skip
        self.run_once(command, stdout_to_log=False)

    def _settings(self, store) -> dict[str, object]:
        settings: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},"
            f"SASL_SSL://127.0.0.1:{self.sasl_port},"
            f"CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port},"
            f"SASL_SSL://127.0.0.1:{self.sasl_port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,"
            "CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": store,
            "log.dirs": self.data,
            "num.partitions": 1,
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            # A member that was killed keeps its partitions for a session; tests that kill often
            # ask for a short one.
            "group.min.session.timeout.ms": 1000,
            "log.retention.ms": -1,
            "log.cleaner.dedupe.buffer.size": 2_097_152,
            "message.max.bytes": 16_777_216,
            "replica.fetch.max.bytes": 16_777_216,
        }
        for mechanism in ("scram-sha-512", "scram-sha-256"):
            settings[f"listener.name.sasl_ssl.{mechanism}.sasl.jaas.config"] = _SCRAM_LOGIN
        # One broker can hold one replica, and fifty partitions of each internal topic take time.
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            settings[f"{topic}.replication.factor"] = 1
            settings[f"{topic}.num.partitions"] = 5
            settings[f"{topic}.min.isr"] = 1
        del settings["offsets.topic.min.isr"]
        return settings

    def command(self):
        return java.java(self.jars, "kafka.Kafka", str(self._settings_file))

    def is_ready(self) -> bool:
        return "Kafka Server started" in self.log_since_spawn()
