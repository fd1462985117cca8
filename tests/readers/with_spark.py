"""Iceberg and Delta by Spark: one session for both formats and for all tables of a run, on local disk,
on S3, and looked up in Glue."""

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pyspark.sql import SparkSession

from parts import cache, java
from parts.run_dir import part_dir
from parts.s3 import S3
from parts.s3_tables import TableBucket
from readers import places
from readers.rows import Row, from_arrow


T, R = TypeVar("T"), TypeVar("R")


class Spark:
    def __init__(self, s3: S3) -> None:
        self.s3 = s3
        self.start_seconds = 0.0
        self._session: SparkSession | None = None

    def __enter__(self) -> "Spark":
        began = time.monotonic()
        if java.home() is not None:
            os.environ["JAVA_HOME"] = str(java.home())
        # Hadoop asks for the host's name, which need not resolve.
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
        folder = part_dir("spark")
        jars = ",".join(str(jar) for jar in sorted(cache.jars("spark").glob("*.jar")))
        aws = ":".join(str(jar) for jar in sorted(cache.jars("spark-aws").glob("*.jar")))
        # Iceberg's client of Glue takes its keys from where all of AWS's tools do. Not by the environment:
        # that is also the one of whatever else is started here.
        keys = f"-Daws.accessKeyId={self.s3.access_key} -Daws.secretAccessKey={self.s3.secret_key}"
        settings = {
            "spark.jars": jars,
            "spark.driver.extraClassPath": aws,
            **self._on_s3(),
            **self._in_glue(),
            "spark.sql.extensions": ",".join(
                [
                    "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
                    "io.delta.sql.DeltaSparkSessionExtension",
                ]
            ),
            "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
            "spark.databricks.delta.snapshotPartitions": "2",
            "spark.sql.shuffle.partitions": "2",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": "2g",
            # One quick compiler: these queries are too small for the good one to pay.
            "spark.driver.extraJavaOptions": f"-Dderby.system.home={folder} -Duser.timezone=UTC"
            f" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC {keys}",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            "spark.local.dir": str(folder),
            "spark.log.level": "ERROR",
        }
        builder = SparkSession.builder.master("local[2]").appName("lakebed tests")
        for key, value in settings.items():
            builder = builder.config(key, value)
        self._session = builder.getOrCreate()
        self.start_seconds = time.monotonic() - began
        return self

    def _on_s3(self) -> dict[str, str]:
        return {
            "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
            "spark.hadoop.fs.s3a.endpoint": self.s3.endpoint,
            "spark.hadoop.fs.s3a.endpoint.region": self.s3.region,
            "spark.hadoop.fs.s3a.path.style.access": "true",
            "spark.hadoop.fs.s3a.access.key": self.s3.access_key,
            "spark.hadoop.fs.s3a.secret.key": self.s3.secret_key,
            "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
        }

    def _in_glue(self) -> dict[str, str]:
        catalog = {
            "type": "glue",
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "warehouse": "s3://nowhere/",
            "glue.endpoint": self.s3.endpoint,
            "client.region": self.s3.region,
            "s3.endpoint": self.s3.endpoint,
            "s3.path-style-access": "true",
            "s3.access-key-id": self.s3.access_key,
            "s3.secret-access-key": self.s3.secret_key,
        }
        name = "spark.sql.catalog.glue"
        return {
            name: "org.apache.iceberg.spark.SparkCatalog",
            **{f"{name}.{key}": value for key, value in catalog.items()},
        }

    def __exit__(self, *_) -> None:
        self._session.stop()
        self._session = None

    def iceberg(self, place: str | Path) -> list[Row]:
        """By path: the file-system table convention, or one metadata file."""
        return self._read("iceberg", place)

    def delta(self, place: str | Path) -> list[Row]:
        return self._read("delta", place)

    def iceberg_in_glue(self, database: str, name: str) -> list[Row]:
        return from_arrow(self._session.table(f"glue.`{database}`.`{name}`").toArrow())

    def rest(self, uri: str, name: str) -> list[Row]:
        """A table of a REST catalog, by its name there; on this machine's disk."""
        catalog = f"rest{uri.rsplit(':', 1)[-1]}"
        setting = f"spark.sql.catalog.{catalog}"
        self._session.conf.set(setting, "org.apache.iceberg.spark.SparkCatalog")
        self._session.conf.set(f"{setting}.type", "rest")
        self._session.conf.set(f"{setting}.uri", uri)
        self._session.conf.set(f"{setting}.cache-enabled", "false")
        return from_arrow(self._session.table(f"{catalog}.{name}").toArrow())

    def s3_tables(self, bucket: TableBucket, name: str) -> list[Row]:
        """A table of a table bucket, by its name there."""
        s3 = bucket.s3
        catalog = {
            "type": "rest",
            "uri": f"{s3.endpoint}/iceberg",
            "warehouse": bucket.arn,
            "rest.sigv4-enabled": "true",
            "rest.signing-name": "s3tables",
            "rest.signing-region": s3.region,
            "rest.access-key-id": s3.access_key,
            "rest.secret-access-key": s3.secret_key,
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "client.region": s3.region,
            "s3.endpoint": s3.endpoint,
            "s3.path-style-access": "true",
            "s3.access-key-id": s3.access_key,
            "s3.secret-access-key": s3.secret_key,
        }
        setting = f"spark.sql.catalog.{bucket.name}"
        self._session.conf.set(setting, "org.apache.iceberg.spark.SparkCatalog")
        for key, value in catalog.items():
            self._session.conf.set(f"{setting}.{key}", value)
        return from_arrow(self._session.table(f"{bucket.name}.{name}").toArrow())

    def read_all(self, tables: list[tuple[str, str | Path]]) -> list[list[Row]]:
        """A list of (``iceberg`` or ``delta``, place)."""
        return self.each(lambda table: self._read(*table), tables)

    @staticmethod
    def each(work: Callable[[T], R], over: Iterable[T]) -> list[R]:
        """Two at a time: while one is planned, which takes a single core, the other is read."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(work, over))

    def where(self, kind: str, place: str | Path, conditions: list[str], column: str) -> list[list]:
        """The column's values in the rows for which each of the conditions, in SQL, holds."""
        frame = self._session.read.format(kind).load(places.local(place))
        found = [frame.where(condition).select(column).toArrow() for condition in conditions]
        return [table[column].to_pylist() for table in found]

    def _read(self, kind: str, place: str | Path) -> list[Row]:
        frame = self._session.read.format(kind).load(places.local(place))
        return from_arrow(frame.toArrow())
