"""Lay out sagas by the million: copy the rows of one real saga, in the database, under ids and a name of their own.

Only the packed wires in `event` are copied as they stand: no index reads them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Column, Connection, Double, Engine, LargeBinary, Table, text
from sqlalchemy.dialects import postgresql

from protools.databases import SIDES, metadata_of
from protools.services import SERVICES
from seedwork.database import open_database
from seedwork.service import load
from seedwork.settings import Settings

LEFT_OUT = ("target", "outbox")
UUID = "([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-)[0-9a-f]{12}"
TAIL = "lpad(to_hex(n), 12, '0')"
NAME = "'u' || left(md5(n::text), 20)"
"""Names of users come in any order; ids come in the order of time."""
AGE_S = 0.001
"""Seconds by which each copy is older than the one before."""


class Layout:
    """Hold a pattern: the rows that one saga left, with the username by which it is known. PostgreSQL only."""

    def __init__(self, settings: Settings, username: str) -> None:
        """Take down all rows as the pattern; to be called while they are that one saga's."""
        self._username = username
        sides = [(service, side) for service in SERVICES for side in SIDES]
        self._tables = {
            open_database(settings, service, side, "owner"): _tables(service, side) for service, side in sides
        }
        for engine, tables in self._tables.items():
            with engine.begin() as tx:
                tx.execute(text("CREATE SCHEMA pattern"))
                for table in tables:
                    tx.execute(text(f"CREATE TABLE pattern.{table.name} AS TABLE public.{table.name}"))

    def copy(self, first: int, last: int, **changes: str) -> None:
        """Add the copies number `first` to `last`; `changes` are SQL expressions of `n` by `table__column`.

        Then have the tables vacuumed and analysed, and everything on disk.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done in [pool.submit(self._fill, *one, first, last, changes) for one in self._tables.items()]:
                done.result()
        os.sync()

    def _fill(self, engine: Engine, tables: list[Table], first: int, last: int, changes: Mapping[str, str]) -> None:
        given = {"first": first, "last": last, "name": self._username}
        with engine.begin() as tx:
            for table in tables:
                if _count(tx, table):
                    tx.execute(text(_copying(table, changes)), given)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM (ANALYZE)"))


def _tables(service: str, side: Any) -> list[Table]:
    found = {t.name: t for m in metadata_of(load(service), side) for t in m.tables.values()}
    return [table for name, table in found.items() if name not in LEFT_OUT]


def _count(tx: Connection, table: Table) -> int:
    return int(tx.execute(text(f"SELECT count(*) FROM pattern.{table.name}")).scalar_one())  # noqa: S608 - our names


def _copying(table: Table, changes: Mapping[str, str]) -> str:
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    values = ", ".join(changes.get(f"{table.name}__{column.name}") or copied(column) for column in table.columns)
    source = f"pattern.{table.name}, generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n"
    return f"INSERT INTO public.{table.name} ({names}) SELECT {values} FROM {source}"  # noqa: S608 - our names


def copied(column: Column[Any]) -> str:
    """Return the SQL expression that makes a column's value in copy number `n` of its value in the pattern."""
    name = f'"{column.name}"'
    if column.type.compile(postgresql.dialect()) == "UUID":  # type: ignore[no-untyped-call]
        return f"CAST(overlay(CAST({name} AS text) PLACING {TAIL} FROM 25) AS uuid)"
    if isinstance(column.type, Double):
        return f"{name} - n * {AGE_S}"
    if isinstance(column.type, LargeBinary):
        return f"CASE WHEN {name} IS NOT NULL THEN sha256(CAST(n AS text)::bytea) END" if column.unique else name
    if column.type.python_type is not str:
        return name
    return f"replace(regexp_replace({name}, '{UUID}', '\\1' || {TAIL}, 'g'), :name, {NAME})"
