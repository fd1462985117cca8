"""Programs that nobody here wrote, reading tables for the tests.

``iceberg(place)`` and ``delta(place)`` of each ``with_*`` module return rows in the form that
``rows.py`` describes. A place is a folder, a ``file:`` or ``s3:`` URI, or one Iceberg metadata
file.
"""

from readers import with_chdb, with_deltalake, with_duckdb, with_pyiceberg

# The readers without a JVM, cheap enough for every test. Spark is `readers.with_spark.Spark`.
ICEBERG = {
    "pyiceberg": with_pyiceberg.iceberg,
    "duckdb": with_duckdb.iceberg,
    "chdb": with_chdb.iceberg,
}
DELTA = {
    "deltalake": with_deltalake.delta,
    "duckdb": with_duckdb.delta,
    "chdb": with_chdb.delta,
}
