"""Apicurio Registry, which also answers as Confluent's does, with its data in a file."""

import requests

from parts import cache, java
from parts.ports import free_port
from parts.process import Part

_CONVERTER = "io.apicurio.registry.utils.converter.AvroConverter"

# How a record names its schema: settings of the converter.
FRAMINGS = {
    # One zero byte, then 4 bytes of content id, as Confluent's serializers write.
    "confluent": {"as-confluent": "true", "use-id": "contentId", "headers.enabled": "false"},
    # One zero byte, then 8 bytes of global id.
    "8byte": {"as-confluent": "false", "use-id": "globalId", "headers.enabled": "false"},
    # Nothing before the body; the ids stand in the record's headers.
    "headers": {"as-confluent": "false", "use-id": "globalId", "headers.enabled": "true"},
}


class Registry(Part):
    name = "registry"
    # 3 s on an idle machine.
    start_seconds = 120.0

    def __init__(self) -> None:
        super().__init__()
        self.program = cache.archive("apicurio-registry")
        self.url = f"http://127.0.0.1:{free_port()}"

    @property
    def confluent_url(self) -> str:
        """The root below which Confluent's own paths are: ``/schemas/ids/1``."""
        return f"{self.url}/apis/ccompat/v7"

    def command(self):
        host, port = self.url.removeprefix("http://").split(":")
        (jar,) = self.program.glob("*-runner.jar")
        settings = {
            "quarkus.http.host": host,
            "quarkus.http.port": port,
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
            "apicurio.datasource.url": f"jdbc:h2:file:{self.data}/registry",
        }
        return java.java_jar(jar, settings, heap="256m")

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def subjects(self) -> list[str]:
        response = requests.get(f"{self.confluent_url}/subjects", timeout=30)
        response.raise_for_status()
        return response.json()

    def schema(self, content_id: int) -> str:
        """The text of a schema, as a Confluent client asks for it."""
        response = requests.get(f"{self.confluent_url}/schemas/ids/{content_id}", timeout=30)
        response.raise_for_status()
        return response.json()["schema"]

    def register(self, subject: str, schema: str) -> int:
        """Registers a schema by hand; returns its id as Confluent's clients know it."""
        response = requests.post(
            f"{self.confluent_url}/subjects/{subject}/versions", json={"schema": schema}, timeout=30
        )
        response.raise_for_status()
        return response.json()["id"]

    def avro(self, framing: str = "confluent") -> dict[str, str]:
        """Settings with which a connector writes Avro for this registry; see ``FRAMINGS``."""
        settings = {"schema.name.adjustment.mode": "avro", "field.name.adjustment.mode": "avro"}
        for side in ("key", "value"):
            settings[f"{side}.converter"] = _CONVERTER
            options = {
                # The converter is older than the registry, which still has the API it speaks.
                "url": f"{self.url}/apis/registry/v2",
                "auto-register": "true",
                "find-latest": "true",
                **FRAMINGS[framing],
            }
            for name, value in options.items():
                settings[f"{side}.converter.apicurio.registry.{name}"] = value
        return settings
