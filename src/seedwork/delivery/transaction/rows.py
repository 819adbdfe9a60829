"""Read and write many rows, and several tables, in one statement.

PostgreSQL takes keys and columns as arrays, SQLite the rows one by one in its own process. Measured against the
multi-row INSERT of SQLAlchemy: 6.5 instead of 16 µs of our CPU per row (docs/decisions/0004-rows-as-arrays.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import orjson
from sqlalchemy import Column, ColumnElement, Connection, DateTime, Dialect, Double, Float, Table, select, text
from sqlalchemy.dialects import postgresql

Row = dict[str, Any]
"""A row by its columns, unchecked; `Rows` has rows that are checked."""
R = TypeVar("R", bound=Mapping[str, Any])
OnTwin = Literal["raise", "ignore", "if-unchanged", "if-newer"]
"""What a row does whose key is there already: fail, leave that row, or replace it under a condition."""

TAKEN = (Double, Float, DateTime)
"""Types whose values every driver takes as they are; SQLAlchemy would take the time zone from a time on SQLite."""
CONDITIONS = {
    "if-unchanged": '{0}."revision" = excluded."revision" - 1',
    "if-newer": '{0}."version" < excluded."version"',
}


@dataclass(frozen=True)
class Insert:
    """Write rows whose keys differ from each other; a missing value is null."""

    table: Table
    rows: Sequence[Row]
    on_twin: OnTwin


@dataclass(frozen=True)
class Delete:
    """Delete rows by primary key."""

    table: Table
    keys: Sequence[Any]


Change = Insert | Delete


class Rows(Table, Generic[R]):
    """A table whose rows have the columns of a TypedDict, so that a misspelt one fails the type checker.

    `item = Rows[Item]("item", TABLES, Column(…), …)`; `revision` need not be named.
    """

    inherit_cache = True


def keyed_alone(table: Table) -> bool:
    """Tell whether one column is the table's primary key."""
    return len(table.primary_key.columns) == 1


class Pool:
    """The rows of a table that meet a condition, in an order. Two pools are equal when they are written alike."""

    def __init__(self, table: Rows[Any], condition: ColumnElement[bool], order_by: ColumnElement[Any]) -> None:
        self.table, self.condition, self.order_by = table, condition, order_by
        written = condition.compile()
        self._identity = (table, str(written), repr(written.params), str(order_by))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pool) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


class OneOf(NamedTuple, Generic[R]):
    """A wish for one row of a pool, whichever is free."""

    pool: Pool
    key: None = None


def one_of(table: Rows[R], condition: ColumnElement[bool], *, order_by: ColumnElement[Any]) -> OneOf[R]:
    """Return what a handler's `reads` yields, and `take` is given, for one free row: the first by `order_by`."""
    return OneOf(Pool(table, condition, order_by))


Wanted = tuple[Table | Column[Any] | Pool, Any]
"""What `reads` yields: a table and a primary key, a unique column and its value, or `one_of(…)`."""
ByColumn = Mapping[Column[Any], Collection[Any]]
NOTHING: ByColumn = MappingProxyType({})


def key_of(table: Table) -> Column[Any]:
    """Return the one column of a table's primary key."""
    (column,) = table.primary_key.columns
    return column


def change(tx: Connection, changes: Sequence[Change]) -> int:
    """Make changes, at most one to each table, on PostgreSQL in one statement; return how many rows the last touched.

    Not in psycopg's pipeline: it ends with a Flush, which turns off the server's timer for idle transactions.
    """
    changes = [_bound(one, tx.dialect) for one in changes]
    if tx.dialect.name == "postgresql":
        return tx.exec_driver_sql(*_together([_as_arrays(one) for one in changes])).rowcount
    return [tx.exec_driver_sql(*_one_by_one(one)).rowcount for one in changes][-1]


def _bound(one: Change, dialect: Dialect) -> Change:
    """Return a change whose values are as the driver takes them: numbers with decimals, JSON and the like are not."""
    binders = _binders(one.table, dialect)
    if not binders:
        return one
    if isinstance(one, Delete):
        bind = binders.get(key_of(one.table).name)
        return replace(one, keys=list(map(bind, one.keys))) if bind else one
    return replace(one, rows=[{**row, **_bound_values(row, binders)} for row in one.rows])


def _bound_values(row: Row, binders: Mapping[str, Callable[[Any], Any]]) -> Row:
    return {name: bind(row[name]) for name, bind in binders.items() if row.get(name) is not None}


@cache
def _binders(table: Table, dialect: Dialect) -> Mapping[str, Callable[[Any], Any]]:
    """Return what makes values of a table's columns what the driver takes, by column."""
    found = {each.name: each.type.dialect_impl(dialect).bind_processor(dialect) for each in table.columns}
    return {name: bind for name, bind in found.items() if bind and type(table.c[name].type) not in TAKEN}


def _together(statements: Sequence[tuple[str, tuple[Any, ...]]]) -> tuple[str, tuple[Any, ...]]:
    """Make one statement of several, whose order does not matter: each sees what was there before all of them."""
    values = tuple(value for _, given in statements for value in given)
    *others, last = [sql for sql, _ in statements]
    named = ", ".join(f"change_{number} AS ({sql})" for number, sql in enumerate(others))
    return f"WITH {named} {last}" if named else last, values


def lock_rows(
    tx: Connection, table: Table, keys: Collection[Any], by_column: ByColumn = NOTHING, *, pass_locked: bool = False
) -> dict[Any, Row]:
    """Read rows by primary key, or by the values of unique columns too, locked, in key order; return them by key.

    With `pass_locked` wait for none of them.
    """
    query = _lock_query(table, tuple(by_column), tx.dialect.name, pass_locked)
    values = {f"values_{number}": array(tx, list(given)) for number, given in enumerate(by_column.values())}
    found = tx.execute(query, {"keys": array(tx, sorted(keys)), **values}).mappings()
    return {row[key_of(table).name]: dict(row) for row in found}


def known_values(tx: Connection, column: Column[Any], values: Collection[Any]) -> set[Any]:
    """Return which of these values a column holds, whoever has locked their rows."""
    return set(tx.execute(select(column).where(column.in_(values))).scalars())


def array(tx: Connection, values: list[Any]) -> Any:
    """Return values as the one parameter that `among` takes them in."""
    return values if tx.dialect.name == "postgresql" else orjson.dumps(values).decode()


def among(column: str, type_name: str, dialect: str, parameter: str = "keys") -> str:
    """Return the SQL condition that a column is one of the values in an array parameter."""
    if dialect == "postgresql":
        return f"{column} = ANY(CAST(:{parameter} AS {type_name}[]))"
    return f"{column} IN (SELECT value FROM json_each(:{parameter}))"  # noqa: S608 - our names


@cache
def _lock_query(table: Table, by: tuple[Column[Any], ...], dialect: str, pass_locked: bool) -> Any:
    key, names = key_of(table), ", ".join(f'"{column.name}"' for column in table.columns)
    wanted = [(key, "keys"), *((column, f"values_{number}") for number, column in enumerate(by))]
    condition = " OR ".join(among(f'"{column.name}"', _type(column), dialect, name) for column, name in wanted)
    lock = f"FOR UPDATE{' SKIP LOCKED' * pass_locked}" if dialect == "postgresql" else ""
    sql = f'SELECT {names} FROM "{table.name}" WHERE {condition} ORDER BY "{key.name}" {lock}'  # noqa: S608 - our names
    return text(sql).columns(*table.columns)


def _as_arrays(one: Change) -> tuple[str, tuple[Any, ...]]:
    if isinstance(one, Delete):
        key = key_of(one.table)
        condition = f'"{key.name}" = ANY(%s::{_type(key)}[])'
        return f'DELETE FROM "{one.table.name}" WHERE {condition}', (list(one.keys),)  # noqa: S608 - our names
    columns = tuple([row.get(column.name) for row in one.rows] for column in one.table.columns)
    return _insert(one.table, one.on_twin, "postgresql"), columns


def _one_by_one(one: Change) -> tuple[str, list[tuple[Any, ...]]]:
    if isinstance(one, Delete):
        condition = f'"{key_of(one.table).name}" = ?'
        return f'DELETE FROM "{one.table.name}" WHERE {condition}', [(key,) for key in one.keys]  # noqa: S608 - our names
    rows = [tuple(row.get(column.name) for column in one.table.columns) for row in one.rows]
    return _insert(one.table, one.on_twin, "sqlite"), rows


@cache
def _insert(table: Table, on_twin: OnTwin, dialect: str) -> str:
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    if dialect == "postgresql":
        arrays = ", ".join(f"%s::{_type(column)}[]" for column in table.columns)
        source = f"SELECT * FROM unnest({arrays})"  # noqa: S608 - our names
    else:
        source = f"VALUES ({', '.join('?' for _ in table.columns)})"
    return f'INSERT INTO "{table.name}" ({names}) {source} {_twin_clause(table, on_twin)}'


def _type(column: Column[Any]) -> str:
    return column.type.compile(postgresql.dialect())  # type: ignore[no-untyped-call]


def _twin_clause(table: Table, on_twin: OnTwin) -> str:
    if on_twin == "raise":
        return ""
    if on_twin == "ignore":
        return "ON CONFLICT DO NOTHING"
    keys = ", ".join(f'"{column.name}"' for column in table.primary_key.columns)
    others = [column.name for column in table.columns if not column.primary_key]
    values = ", ".join(f'"{name}" = excluded."{name}"' for name in others)
    condition = CONDITIONS[on_twin].format(f'"{table.name}"')
    return f"ON CONFLICT ({keys}) DO UPDATE SET {values} WHERE {condition}"
