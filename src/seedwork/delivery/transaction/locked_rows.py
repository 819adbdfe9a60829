"""Lock the rows that a batch reads, once, and see them as each of its messages has left them."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, Never, cast

from sqlalchemy import Column, ColumnElement, Connection, Table, select

from pulsaga.delivery.transaction.rows import OneOf, Pool, R, Row, Rows, Wanted, key_of, known_values, lock_rows
from pulsaga.errors import Unavailable


class LockedRows:
    """The rows of one transaction. What the message in hand changes or takes is kept or dropped alone."""

    def __init__(self, tx: Connection) -> None:
        self.tx = tx
        """The transaction itself, for statements of operators that must not wait for the end."""
        self.pass_locked = False
        """Whether rows that another transaction holds are passed over, and their readers told to wait."""
        self._rows: dict[Table, dict[Any, Row | None]] = defaultdict(dict)
        self._held: dict[Column[Any], set[Any]] = defaultdict(set)
        self._found: dict[Column[Any], dict[Any, Any]] = defaultdict(dict)
        """Of each unique column: the primary keys, or None, of the values that were asked for."""
        self._pools: dict[Pool, deque[Any]] = {}
        """Of each pool: the primary keys of the rows that are locked for this batch, but for those that were taken."""
        self._elsewhere: dict[Pool, bool] = {}
        self._changed: dict[Table, dict[Any, Row]] = defaultdict(dict)
        self._taken: dict[Table, dict[Any, Row | None]] = defaultdict(dict)
        """Of each table: the rows that a message took from a pool, as it left them; None where it changed nothing."""
        self._changing: dict[Table, dict[Any, Row]] = defaultdict(dict)
        """As `_changed`, by the message in hand."""
        self._taking: dict[Pool, Any] = {}

    def load(self, wanted: Iterable[Wanted]) -> None:
        """Load and lock rows by primary key and unique column, in key order, then of pools: one statement for each."""
        targets: dict[Any, list[Any]] = defaultdict(list)
        for target, key in wanted:
            targets[target].append(key)
        pools = {target: len(keys) for target, keys in targets.items() if isinstance(target, Pool)}
        columns = [target for target in targets if isinstance(target, Column)]
        tables = {target for target in targets if isinstance(target, Table)} | {column.table for column in columns}
        for table in sorted(tables, key=lambda t: t.name):
            by_column = {column: set(targets[column]) for column in columns if column.table is table}
            self._load_rows(table, set(targets.get(table, ())) - self._rows[table].keys(), by_column)
        for pool, limit in self._limits(pools).items():
            rows = self.claim(pool.table, pool.condition, pool.order_by, limit)
            self._pools[pool] = deque(row[key_of(pool.table).name] for row in rows)

    def _limits(self, pools: dict[Pool, int]) -> dict[Pool, int]:
        """Return how many rows of each pool to load for so many wishes: neighbours may take or change some of them."""
        wishes: dict[Table, int] = defaultdict(int)
        for pool, number in pools.items():
            wishes[pool.table] += number
        return {pool: wishes[pool.table] + len(self._rows[pool.table]) for pool in pools}

    def _load_rows(self, table: Table, keys: set[Any], by_column: dict[Column[Any], set[Any]]) -> None:
        if not keys and not by_column:
            return
        found = lock_rows(self.tx, table, keys, by_column, pass_locked=self.pass_locked)
        self._rows[table] |= dict.fromkeys(keys) | found
        self._note_held(key_of(table), keys - found.keys())
        for column, values in by_column.items():
            self._found[column] |= dict.fromkeys(values)
            self._found[column] |= {row[column.name]: key for key, row in found.items() if row[column.name] in values}
            self._note_held(column, {value for value in values if self._found[column][value] is None})

    def _note_held(self, column: Column[Any], missing: set[Any]) -> None:
        if self.pass_locked and missing:
            self._held[column] |= known_values(self.tx, column, missing)

    def claim(self, table: Rows[R], condition: Any, order: ColumnElement[Any], limit: int) -> list[R]:
        """Load and lock rows that match, passing over those a rival holds (SKIP LOCKED)."""
        query = select(table).where(condition).order_by(order).limit(limit).with_for_update(skip_locked=True)
        rows: list[Any] = [dict(row) for row in self.tx.execute(query).mappings()]
        self._rows[table] |= {row[key_of(table).name]: row for row in rows}
        return rows

    def rows_with(self, table: Rows[R], column: Column[Any], value: Any) -> list[R]:
        """Load and lock the rows with this value in a column; return them as this message would see them, in key order.

        Raise as `get` does.
        """
        key = key_of(table)
        stored = self.values(select(key).where(column == value))
        self.load((table, one) for one in stored)
        changed = {**self._changed[table], **self._changing[table]}
        keys = {*stored, *(one for one, row in changed.items() if row[column.name] == value)}
        rows = (self.get(table, one) for one in sorted(keys))
        return [row for row in rows if row is not None and row[column.name] == value]

    def values(self, statement: Any) -> list[Any]:
        """Run a statement at once and return its first column; what it reads it does not lock."""
        return list(self.tx.execute(statement).scalars())

    def get(self, table: Rows[R], key: Any) -> R | None:
        """Return a loaded row as this message would see it, or None.

        Raise Unavailable when another transaction holds it and `pass_locked` is set, LookupError when it was not asked
        for.
        """
        if self._held and key in self._held[key_of(table)]:
            raise Unavailable(f"{table.name} {key!r} is held by another transaction")
        for rows in (self._changing[table], self._changed[table], self._rows[table]):
            if key in rows:
                row: Any = rows[key]
                return None if row is None else cast(R, dict(row))
        raise LookupError(f"{table.name} {key!r} was not loaded: name it in the handler's reads")

    def find(self, table: Rows[R], column: Column[Any], value: Any) -> R | None:
        """Return the row with this value in a unique column as this message would see it, or None.

        Raise as `get` does.
        """
        if self._held and value in self._held[column]:
            raise Unavailable(f"{column} {value!r} is held by another transaction")
        if value not in self._found[column]:
            raise LookupError(f"{column} {value!r} was not loaded: name it in the handler's reads")
        mine, kept = self._changing[table], self._changed[table]
        row = next((row for row in mine.values() if row[column.name] == value), None)
        row = row or next((row for k, row in kept.items() if k not in mine and row[column.name] == value), None)
        key = self._found[column][value]
        if row or key is None or key in mine or key in kept:
            return cast(R, dict(row)) if row else None
        return self.get(table, key)

    def take(self, one: OneOf[R]) -> R | None:
        """Return the row of a pool that is this message's, the same whenever it asks, or None when no row matches.

        No other message of the batch is given it unless this one fails. Raise Unavailable while all that match are in
        the hands of others, LookupError for a pool that was not asked for.
        """
        pool, table, mine = one.pool, cast(Rows[R], one.pool.table), self._taking
        if pool not in self._pools:
            raise LookupError(f"no row of this pool of {table.name} was loaded: name it in the handler's reads")
        if pool not in mine:
            key = self._first_free(pool)
            if key is None:
                return None
            mine[pool] = key
        return self.get(table, mine[pool])

    def _first_free(self, pool: Pool) -> Any:
        """Return the primary key of the first row that nobody in this batch has taken or changed, or None."""
        rows, taken, changed = self._pools[pool], self._taken[pool.table], self._changed[pool.table]
        while rows and rows[0] in taken:
            rows.popleft()
        mine = self._changing[pool.table].keys() | set(self._taking.values())
        free = next((key for key in rows if key not in taken and key not in changed and key not in mine), None)
        if free is None and (self._may_match_later(pool.table) or self._is_held_elsewhere(pool)):
            raise Unavailable(f"every {pool.table.name} that matches is in the hands of others")
        return free

    def _may_match_later(self, table: Table) -> bool:
        """Tell whether this batch has taken rows and left them, or changed others: after the commit they may match."""
        taken = self._taken[table]
        return None in taken.values() or any(row is not taken.get(key) for key, row in self._changed[table].items())

    def _is_held_elsewhere(self, pool: Pool) -> bool:
        """Tell whether rows match that this transaction could not lock. Asked once: nobody can give them back here."""
        if pool not in self._elsewhere:
            key = key_of(pool.table)
            others = select(key).where(pool.condition, key.not_in(self._rows[pool.table].keys())).limit(1)
            self._elsewhere[pool] = bool(self.values(others))
        return self._elsewhere[pool]

    def put(self, table: Rows[R], row: R | Callable[[R], Never]) -> None:
        """Write a whole row over the one that was loaded, or as a new one.

        A function is never given. Its type makes mypy look at the table's first, and so check the keys of a row that
        is written as a dictionary in the call.
        """
        whole = cast(Row, row)
        self._changing[table][whole[key_of(table).name]] = whole

    def keep(self) -> None:
        """Take over what the message in hand changed and took."""
        for pool, key in self._taking.items():
            self._taken[pool.table][key] = self._changing[pool.table].get(key)
        for table, rows in self._changing.items():
            self._changed[table] |= rows
        self.drop()

    def drop(self) -> None:
        """Forget what the message in hand changed and took, and only that."""
        self._changing, self._taking = defaultdict(dict), {}

    def changed_tables(self) -> list[Table]:
        """Return the tables with changed rows, by name."""
        return sorted(filter(self._changed.get, self._changed), key=lambda table: table.name)

    def changed_rows(self, table: Table) -> list[Row]:
        """Return the rows of a table that changed, in key order, each with its next revision."""
        changed = sorted(self._changed[table].items())
        return [{**row, "revision": self._revision(table, key) + 1} for key, row in changed]

    def _revision(self, table: Table, key: Any) -> int:
        loaded = self._rows[table].get(key)
        return loaded["revision"] if loaded else 0
