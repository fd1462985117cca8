"""A source table as the database itself prints it: every value the server's own cast to text."""

import json
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql


@dataclass(frozen=True)
class SourceTable:
    name: str
    columns: tuple[tuple[str, str], ...]  # name, type as format_type prints it
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
