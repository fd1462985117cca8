"""A source table as the database itself prints it: every value the server's own cast to text."""

import json
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pymysql
from psycopg import sql


@dataclass(frozen=True)
class SourceTable:
    name: str
    columns: tuple[tuple[str, str], ...]  # name, type as PostgreSQL's format_type prints it
    key: tuple[str, ...]
    rows: list[tuple[str | None, ...]]


def from_state(file: Path) -> dict[str, SourceTable]:
    """The tables of a recorded ``*state.jsonl``, by name."""
    tables = {}
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            tables[entry["table"]] = SourceTable(
                name=entry["table"],
                columns=tuple((name, kind) for name, kind, *_ in entry["columns"]),
                key=tuple(entry["primary_key"]),
                rows=[tuple(row) for row in entry["rows"]],
            )
    return tables


# What a session's settings could change in the text.
_TEXT_FORM = (
    "SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres';"
    " SET bytea_output = 'hex'; SET extra_float_digits = 1; SET lc_monetary = 'C'"
)

# Domains are resolved to the type below them, which is what decides how a value is sent.
_COLUMNS = """
    WITH RECURSIVE base AS (
        SELECT a.attnum, a.attname, a.atttypid AS type, a.atttypmod AS mod
        FROM pg_attribute a
        WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT b.attnum, b.attname, t.typbasetype,
               CASE WHEN b.mod = -1 THEN t.typtypmod ELSE b.mod END
        FROM base b JOIN pg_type t ON t.oid = b.type
        WHERE t.typtype = 'd'
    )
    SELECT b.attname, format_type(b.type, b.mod)
    FROM base b JOIN pg_type t ON t.oid = b.type
    WHERE t.typtype <> 'd'
    ORDER BY b.attnum
"""

_KEY = """
    SELECT a.attname
    FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS part(number, place), pg_attribute a
    WHERE i.indrelid = %(table)s::regclass AND i.indisprimary
      AND a.attrelid = i.indrelid AND a.attnum = part.number
    ORDER BY part.place
"""


def from_postgres(connection: psycopg.Connection, table: str) -> SourceTable:
    """``table`` with its schema, as in ``public.orders``; the columns, key and rows it has now."""
    schema, name = table.split(".", 1)
    identifier = sql.Identifier(schema, name)
    named = {"table": identifier.as_string(connection)}
    connection.execute(_TEXT_FORM)
    columns = tuple(connection.execute(_COLUMNS, named).fetchall())
    key = tuple(name for (name,) in connection.execute(_KEY, named))
    texts = sql.SQL(", ").join(
        sql.SQL("{}::text").format(sql.Identifier(column)) for column, _ in columns
    )
    query = sql.SQL("SELECT {} FROM {}").format(texts, identifier)
    return SourceTable(table, columns, key, connection.execute(query).fetchall())


# PostgreSQL's names for types of MariaDB whose values are the same, in the server's text as well.
_OF_MARIADB = {
    "tinyint": "integer",
    "smallint": "integer",
    "mediumint": "integer",
    "int": "integer",
    "bigint": "bigint",
    "year": "integer",
    "decimal": "numeric",
    "float": "real",
    "double": "double precision",
    "char": "text",
    "varchar": "text",
    "tinytext": "text",
    "text": "text",
    "mediumtext": "text",
    "longtext": "text",
    "enum": "text",
    "set": "text",
    "uuid": "uuid",
    "binary": "bytea",
    "varbinary": "bytea",
    "tinyblob": "bytea",
    "blob": "bytea",
    "mediumblob": "bytea",
    "longblob": "bytea",
    "date": "date",
    "time": "time without time zone",
    "datetime": "timestamp without time zone",
    "timestamp": "timestamp with time zone",
}

_COLUMNS_OF_MARIADB = """
    SELECT column_name, data_type FROM information_schema.columns
    WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position
"""

_KEY_OF_MARIADB = """
    SELECT column_name FROM information_schema.statistics
    WHERE table_schema = %s AND table_name = %s AND index_name = 'PRIMARY' ORDER BY seq_in_index
"""


def from_mariadb(connection: pymysql.Connection, table: str) -> SourceTable:
    """``table`` with its database, as in ``shop.orders``; the columns, key and rows it has now.

    Types by PostgreSQL's names. A float is the server's text of six digits: put nothing finer in.
    """
    place = table.split(".", 1)
    with connection.cursor() as cursor:
        # Zoned values are printed in the session's zone.
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute(_COLUMNS_OF_MARIADB, place)
        columns = tuple((name, _OF_MARIADB[kind]) for name, kind in cursor.fetchall())
        cursor.execute(_KEY_OF_MARIADB, place)
        key = tuple(name for (name,) in cursor.fetchall())
        texts = ", ".join(
            f"HEX({_quoted(name)})" if kind == "bytea" else f"CAST({_quoted(name)} AS CHAR)"
            for name, kind in columns
        )
        cursor.execute(f"SELECT {texts} FROM {'.'.join(map(_quoted, place))}")
        return SourceTable(table, columns, key, list(cursor.fetchall()))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
