"""Trino, which reads as Athena does (Athena is made of it): both formats, looked up in Glue, on S3."""

import requests

from parts import cache, java
from parts.ports import free_port
from parts.process import Part
from parts.s3 import S3

_JVM = """-server
-Xmx2G
-XX:+UseSerialGC
-XX:TieredStopAtLevel=1
-XX:ReservedCodeCacheSize=256M
-Djdk.attach.allowAttachSelf=true
-XX:+EnableDynamicAgentLoading
--enable-native-access=ALL-UNNAMED
"""


class Trino(Part):
    name = "trino"
    # 17 s on an idle machine.
    start_seconds = 240.0

    def __init__(self, s3: S3) -> None:
        super().__init__()
        self.s3 = s3
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @staticmethod
    def is_possible() -> bool:
        """Whether this machine has a Java that is new enough."""
        return java.newest(java.TRINO_NEEDS) is not None

    def spawn(self) -> None:
        """Once, whoever asks first."""
        if self.pid is None:
            super().spawn()

    @property
    def _etc(self):
        return self.dir / "etc"

    def prepare(self) -> None:
        (server,) = cache.archive("trino").glob("trino-server-*")
        plugins = self.dir / "plugin"
        # Two of its sixty: the others take a minute to load.
        for plugin in ("iceberg", "delta-lake"):
            plugins.mkdir(exist_ok=True)
            (plugins / plugin).symlink_to(server / "plugin" / plugin)
        (self._etc / "catalog").mkdir(parents=True)
        settings = {
            "coordinator": "true",
            "node-scheduler.include-coordinator": "true",
            "http-server.http.port": self.port,
            "discovery.uri": self.url,
            "plugin.dir": plugins,
            "query.max-memory": "800MB",
            "query.max-memory-per-node": "800MB",
            "memory.heap-headroom-per-node": "300MB",
        }
        loopback = {
            f"node.{name}": "127.0.0.1"
            for name in ("bind-ip", "internal-address", "external-address")
        }
        node = {"node.environment": "tests", "node.data-dir": self.data, **loopback}
        (self._etc / "config.properties").write_text(java.properties(settings))
        (self._etc / "node.properties").write_text(java.properties(node))
        (self._etc / "jvm.config").write_text(_JVM)
        (self._etc / "log.properties").write_text("io.trino=WARN\n")
        glue = {
            "hive.metastore.glue.endpoint-url": self.s3.endpoint,
            "hive.metastore.glue.region": self.s3.region,
            "hive.metastore.glue.aws-access-key": self.s3.access_key,
            "hive.metastore.glue.aws-secret-key": self.s3.secret_key,
            "fs.native-s3.enabled": "true",
            "s3.endpoint": self.s3.endpoint,
            "s3.region": self.s3.region,
            "s3.path-style-access": "true",
            "s3.aws-access-key": self.s3.access_key,
            "s3.aws-secret-key": self.s3.secret_key,
        }
        catalogs = {
            "iceberg": {"connector.name": "iceberg", "iceberg.catalog.type": "glue", **glue},
            "delta": {"connector.name": "delta_lake", "hive.metastore": "glue", **glue},
        }
        for name, catalog in catalogs.items():
            file = self._etc / "catalog" / f"{name}.properties"
            file.write_text(java.properties(catalog))

    def command(self):
        (server,) = cache.archive("trino").glob("trino-server-*")
        return [str(server / "bin" / "launcher"), "run", "--etc-dir", str(self._etc)]

    def environment(self):
        home = java.newest(java.TRINO_NEEDS)
        return {"JAVA_HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin"}

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/v1/info", timeout=5).json()["starting"] is False
        except (requests.RequestException, ValueError):
            return False
