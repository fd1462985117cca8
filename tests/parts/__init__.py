"""Real services for the tests: Kafka, Kafka Connect with Debezium, PostgreSQL, MariaDB, a schema
registry, S3 and Glue, an Iceberg REST catalog, Trino.

Every part is one object: ``spawn()`` starts its process, ``wait_ready()`` waits for it (bounded),
``stop()`` ends it and throws its data away; ``start()`` is the first two together. Everything
listens on loopback, on ports that are free when the part starts.
"""

from parts.connect import Connect
from parts.kafka import Kafka
from parts.lakebed import Lakebed
from parts.mariadb import MariaDB
from parts.postgres import Postgres
from parts.registry import Registry
from parts.rest_catalog import RestCatalog
from parts.s3 import S3
from parts.trino import Trino

__all__ = [
    "Connect",
    "Kafka",
    "Lakebed",
    "MariaDB",
    "Postgres",
    "Registry",
    "RestCatalog",
    "S3",
    "Trino",
]
