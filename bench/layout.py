"""Lay out sagas by the million: copy the rows of one real saga, in the database, under ids and a name of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Column, Double, Engine, Table, select, text
from sqlalchemy.dialects import postgresql

from pulsaga.delivery.database import open_database
from pulsaga.delivery.transaction.rows import Row
from pulsaga.settings import Settings
from pulsaga_program.databases import SIDES, histories_of
from system import SYSTEM

LEFT_OUT = ("target", "outbox", "key_check")
"""What is no saga's, or for a moment only."""
PATTERN = "pattern-of-the-bench"
"""Username of the saga that is copied: as long as the names of its copies, so that what is packed stays readable."""
PLACES = re.compile(rb"((?<=[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-)[0-9a-f]{12}|" + PATTERN.encode() + rb")")
"""What differs in a copy: the end of every id, and the name."""
COPIES = f"""
    SELECT n, lpad(to_hex(n), 12, '0') AS tail, left('u' || md5(CAST(n AS text)), {len(PATTERN)}) AS name
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n
"""  # noqa: S608 - our numbers
"""Ids come in the order of time, names in any order."""
AGE_S = 0.001
"""Seconds by which each copy is older than the one before."""


class Layout:
    """Hold the rows that one saga of the user PATTERN left, by database and table. PostgreSQL only."""

    def __init__(self, settings: Settings) -> None:
        """Take down all rows there are; to be called while they are that one saga's."""
        sides = [(service, side) for service in SYSTEM.names for side in SIDES]
        self._pattern = {
            open_database(settings, service, side, "owner"): _tables(service, side) for service, side in sides
        }
        self._rows = {engine: _rows(engine, tables) for engine, tables in self._pattern.items()}

    def copy(self, first: int, last: int, **changes: str) -> None:
        """Add the copies number `first` to `last`, have tables vacuumed and analysed, and everything on disk.

        `changes` are SQL expressions of `n`, by `table__column`.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            given = {"first": first, "last": last}
            for done in [pool.submit(_fill, *one, given, changes) for one in self._rows.items()]:
                done.result()
        os.sync()


def _tables(service: str, side: Any) -> list[Table]:
    histories = histories_of(SYSTEM, SYSTEM[service], side)
    found = {table.name: table for history in histories for table in history.tables.tables.values()}
    return [table for name, table in found.items() if name not in LEFT_OUT]


def _rows(engine: Engine, tables: Sequence[Table]) -> dict[Table, list[Row]]:
    with engine.connect() as connection:
        found = {table: [dict(row) for row in connection.execute(select(table)).mappings()] for table in tables}
    return {table: rows for table, rows in found.items() if rows}


def _fill(
    engine: Engine, pattern: Mapping[Table, Sequence[Row]], given: dict[str, Any], changes: Mapping[str, str]
) -> None:
    with engine.begin() as tx:
        for table, rows in pattern.items():
            sql, values = copying(table, rows, changes)
            tx.execute(text(sql), given | values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE)"))


def copying(table: Table, rows: Sequence[Row], changes: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the statement that adds every row once for each copy, saga by saga, and the values it is given."""
    values: dict[str, Any] = {}
    written = ", ".join(f"({', '.join(_cells(table, row, changes, values))})" for row in rows)
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    source = f"({COPIES}) AS s CROSS JOIN LATERAL (VALUES {written}) AS v"
    return f"INSERT INTO {table.name} ({names}) SELECT v.* FROM {source}", values  # noqa: S608 - our names


def _cells(table: Table, row: Row, changes: Mapping[str, str], values: dict[str, Any]) -> list[str]:
    return [
        changes.get(f"{table.name}__{column.name}") or copied(column, row[column.name], values)
        for column in table.columns
    ]


def copied(column: Column[Any], value: Any, values: dict[str, Any]) -> str:
    """Return the SQL expression that makes a value of the pattern that of copy `n`; add to `values` what it needs."""
    type_name = column.type.compile(postgresql.dialect())  # type: ignore[no-untyped-call]
    if isinstance(value, bytes) and column.unique:
        return "sha256(convert_to(tail, 'UTF8'))"
    if isinstance(value, str | bytes):
        return f"CAST({_spliced(value, values)} AS {type_name})"
    older = f" - n * {AGE_S}" if isinstance(column.type, Double) else ""
    return f"CAST({_given(value, values)} AS {type_name}){older}"


def _spliced(value: str | bytes, values: dict[str, Any]) -> str:
    kept, *others = PLACES.split(value.encode() if isinstance(value, str) else value)
    parts = [_piece(kept, value, values)]
    for place, after in zip(others[::2], others[1::2], strict=True):
        name = "name" if place == PATTERN.encode() else "tail"
        parts += [name if isinstance(value, str) else f"convert_to({name}, 'UTF8')", _piece(after, value, values)]
    return " || ".join(parts)


def _piece(kept: bytes, value: str | bytes, values: dict[str, Any]) -> str:
    if isinstance(value, str):
        return f"CAST({_given(kept.decode(), values)} AS text)"
    return f"CAST({_given(kept, values)} AS bytea)"


def _given(value: Any, values: dict[str, Any]) -> str:
    name = f"given_{len(values)}"
    values[name] = value
    return f":{name}"
