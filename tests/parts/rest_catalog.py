"""Apache Iceberg's own REST catalog for tests, over its JDBC catalog in SQLite.

The server is the adapter that Iceberg's own clients are tested against. Jetty is put together from
XML, so that nothing has to be compiled and it listens on the loopback alone.
"""

from xml.sax.saxutils import escape

import requests

from parts import cache, java
from parts.ports import free_port
from parts.process import Part
from parts.s3 import S3

_SERVER = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "https://jetty.org/configure_10_0.dtd">
<Configure id="Server" class="org.eclipse.jetty.server.Server">
  <Call name="addConnector"><Arg>
    <New class="org.eclipse.jetty.server.ServerConnector">
      <Arg><Ref refid="Server"/></Arg>
      <Set name="host">127.0.0.1</Set>
      <Set name="port">{port}</Set>
    </New>
  </Arg></Call>
  <New id="Catalog" class="org.apache.iceberg.jdbc.JdbcCatalog">
    <Call name="setConf"><Arg><New class="org.apache.hadoop.conf.Configuration"/></Arg></Call>
    <Call name="initialize">
      <Arg>rest</Arg>
      <Arg><Map>{properties}</Map></Arg>
    </Call>
  </New>
  <Set name="handler">
    <New id="Context" class="org.eclipse.jetty.ee10.servlet.ServletContextHandler">
      <Set name="contextPath">/</Set>
      <Call name="addServlet">
        <Arg>
          <New class="org.eclipse.jetty.ee10.servlet.ServletHolder"><Arg>
            <New class="org.apache.iceberg.rest.RESTCatalogServlet"><Arg>
              <New class="org.apache.iceberg.rest.RESTCatalogAdapter"><Arg><Ref refid="Catalog"/></Arg></New>
            </Arg></New>
          </Arg></New>
        </Arg>
        <Arg>/*</Arg>
      </Call>
    </New>
  </Set>
</Configure>
"""


class RestCatalog(Part):
    """With ``s3`` its tables lie there, else on this machine's disk."""

    name = "rest_catalog"
    client_secret = "the catalog's secret"
    # 2 s on an idle machine.
    start_seconds = 120.0

    def __init__(self, s3: S3 | None = None) -> None:
        super().__init__()
        self.jars = cache.jars("iceberg-rest")
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.s3 = s3

    def prepare(self) -> None:
        properties = {
            "uri": f"jdbc:sqlite:{self.data}/catalog.db",
            "warehouse": f"file://{self.data}/warehouse",
            "jdbc.schema-version": "V1",
            **(self._s3_properties() if self.s3 else {}),
        }
        entries = "".join(
            f"<Entry><Item>{escape(key)}</Item><Item>{escape(value)}</Item></Entry>"
            for key, value in properties.items()
        )
        (self.dir / "jetty.xml").write_text(_SERVER.format(port=self.port, properties=entries))

    def _s3_properties(self) -> dict[str, str]:
        return {
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "http-client.type": "urlconnection",
            "client.region": self.s3.region,
            "s3.endpoint": self.s3.endpoint,
            "s3.path-style-access": "true",
            "s3.access-key-id": self.s3.access_key,
            "s3.secret-access-key": self.s3.secret_key,
        }

    def command(self):
        main = "org.eclipse.jetty.xml.XmlConfiguration"
        return java.java(self.jars, main, str(self.dir / "jetty.xml"), heap="256m")

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.uri}/v1/config", timeout=5).ok
        except requests.RequestException:
            return False

    def lakebed_config(self) -> dict:
        """The ``lake.catalog`` section of a configuration; ``Lakebed`` sets the variable."""
        oauth2 = {"client_id": "lakebed", "client_secret": "${env:CATALOG_SECRET}"}
        return {"type": "rest", "uri": self.uri, "oauth2": oauth2}

    def table(self, database: str, name: str) -> dict:
        """A table as the catalog tells it."""
        answer = requests.get(f"{self.uri}/v1/namespaces/{database}/tables/{name}", timeout=30)
        answer.raise_for_status()
        return answer.json()
