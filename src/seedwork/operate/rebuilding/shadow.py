"""Hold tables of a read database anew beside the live ones: fill them, compare row by row, swap them in.

The new tables are temporary: nobody else sees them, and they go with their connection, however that ends. They are
swapped in by their difference, in one transaction that changes nothing but rows: whoever reads sees the old rows or the
new ones, keeps grants, connections and prepared statements, and waits for nothing. A projector waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    MetaData,
    Table,
    Text,
    and_,
    cast,
    delete,
    exists,
    false,
    func,
    insert,
    not_,
    or_,
    select,
    text,
)

from pulsaga.delivery.projection import Rows, newest
from pulsaga.delivery.transaction.rows import change

LOCK_MS = 2000
"""Milliseconds for which the lock is waited for: projectors wait behind whoever waits."""
AT_REST_MS = 60_000
"""Milliseconds for which the swap may wait for the write databases; it would be ended as an idle transaction else."""
Kind = Literal["missing", "behind", "changed", "foreign"]
KINDS: Mapping[Kind, str] = {
    "missing": "the events tell of it, and it is not shown",
    "behind": "a newer event tells of it than the one that is shown",
    "changed": "it is shown otherwise than the events tell",
    "foreign": "no event tells of it",
}
LATE: tuple[Kind, ...] = ("missing", "behind")
"""What the projector may just not have come to yet."""


@dataclass(frozen=True)
class Difference:
    """How a live table differs from the one that was built: how many rows of each kind, and the first of them."""

    table: str
    rows: int
    counts: Mapping[Kind, int]
    examples: Sequence[Mapping[str, Any]]

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return any(self.counts.values())

    @property
    def late(self) -> bool:
        """Whether any row may be one that the projector has only not come to yet."""
        return any(self.counts[kind] for kind in LATE)


class RebuiltTable:
    """A live table, and the same built anew."""

    def __init__(self, live: Table, name: str) -> None:
        self.live = live
        columns = (
            Column(c.name, c.type, primary_key=c.primary_key, nullable=c.nullable, autoincrement=False)
            for c in live.columns
        )
        self.built = Table(name, MetaData(), *columns, prefixes=["TEMPORARY"])

    @cached_property
    def _others(self) -> list[str]:
        return [column.name for column in self.live.columns if not column.primary_key]

    @cached_property
    def _same_key(self) -> ColumnElement[bool]:
        return and_(*(self.live.c[key.name] == self.built.c[key.name] for key in self.live.primary_key.columns))

    @cached_property
    def _differs(self) -> ColumnElement[bool]:
        pairs = ((_comparable(self.live.c[name]), _comparable(self.built.c[name])) for name in self._others)
        return or_(false(), *(live.is_distinct_from(built) for live, built in pairs))

    @cached_property
    def _is_behind(self) -> ColumnElement[bool]:
        return self.live.c["version"] < self.built.c["version"]

    def _queries(self) -> Mapping[Kind, Any]:
        """Return what selects the rows of each kind: of two rows that differ first the live one, then the other."""
        both = select(self.live, self.built).join_from(self.live, self.built, self._same_key)
        of_live, of_built = (select(one).where(~exists().where(self._same_key)) for one in (self.live, self.built))
        return {
            "missing": of_built.correlate(self.built),
            "behind": both.where(self._differs, self._is_behind),
            "changed": both.where(self._differs, not_(self._is_behind)),
            "foreign": of_live.correlate(self.live),
        }

    def count(self, tx: Connection, table: Table) -> int:
        """Return how many rows one of the two has."""
        return int(tx.execute(select(func.count()).select_from(table)).scalar_one())

    def counts(self, tx: Connection, kinds: Sequence[Kind] = tuple(KINDS)) -> dict[Kind, int]:
        """Return how many rows of each kind differ."""
        queries = self._queries()
        return {kind: self._count_of(tx, queries[kind]) for kind in kinds}

    def _count_of(self, tx: Connection, query: Any) -> int:
        return int(tx.execute(query.with_only_columns(func.count(), maintain_column_froms=True)).scalar_one())

    def difference(self, tx: Connection, limit: int) -> Difference:
        """Compare the two, row by row; name at most so many rows."""
        counts = self.counts(tx)
        return Difference(str(self.live.name), self.count(tx, self.built), counts, self._examples(tx, counts, limit))

    def looked_again(self, tx: Connection, before: Difference, limit: int) -> Difference:
        """Return a difference with what is late now; of the rest it holds what was found under the lock."""
        late = self.counts(tx, LATE)
        others = [one for one in before.examples if one["kind"] not in LATE]
        examples = [*self._examples(tx, late, limit), *others][:limit]
        return replace(before, counts={**before.counts, **late}, examples=examples)

    def _examples(self, tx: Connection, counts: Mapping[Kind, int], limit: int) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        for kind in (kind for kind, number in counts.items() if number):
            rows = tx.execute(self._queries()[kind].limit(limit - len(found))).all()
            found += [{"kind": kind, **self._shown(tuple(row))} for row in rows]
        return found

    def _shown(self, row: tuple[Any, ...]) -> Mapping[str, Any]:
        """Return a row's key, and the columns in which the two differ, as they are shown and as they are told."""
        names = [column.name for column in self.live.columns]
        first, second = dict(zip(names, row, strict=False)), dict(zip(names, row[len(names) :], strict=False))
        key = {column.name: first[column.name] for column in self.live.primary_key.columns}
        changed = {name: [first[name], second[name]] for name in names if second and first[name] != second[name]}
        return {"key": key, "columns": changed}

    def clear(self, tx: Connection) -> None:
        """Delete what has no equal among what was built."""
        tx.execute(delete(self.live).where(~exists().where(self._same_key, not_(self._differs)).correlate(self.live)))

    def fill(self, tx: Connection) -> None:
        """Insert what was built and is not there."""
        absent = select(self.built).where(~exists().where(self._same_key).correlate(self.built))
        tx.execute(insert(self.live).from_select([column.name for column in self.live.columns], absent))


def _comparable(column: Column[Any]) -> ColumnElement[Any]:
    """Return what can be compared: PostgreSQL has no equality of JSON."""
    return cast(column, Text) if isinstance(column.type, JSON) else column


class Shadow:
    """Tables built anew on one connection to their read database, each beside its live one."""

    def __init__(self, connection: Connection, tables: Sequence[Table]) -> None:
        self._connection = connection
        self.tables = {table.name: RebuiltTable(table, f"rebuilt_{number}") for number, table in enumerate(tables)}

    def create(self) -> None:
        """Create the new tables, empty."""
        with self._connection.begin():
            for one in self.tables.values():
                one.built.create(self._connection)

    def add(self, rows: Rows) -> None:
        """Write what events become, in the transaction in hand; rows of other tables are left out."""
        for table, found in rows.items():
            if one := self.tables.get(table.name):
                change(self._connection, [replace(newest(table, found), table=one.built)])

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Hold a transaction."""
        with self._connection.begin():
            yield self._connection

    @contextmanager
    def locked(self) -> Iterator[Connection]:
        """Hold a transaction in which nobody else writes the live tables; everybody may read them."""
        with self._connection.begin():
            if self._connection.dialect.name == "postgresql":
                self._lock()
            yield self._connection

    def _lock(self) -> None:
        for setting, value in (("lock_timeout", LOCK_MS), ("idle_in_transaction_session_timeout", AT_REST_MS)):
            self._connection.execute(text(f"SET LOCAL {setting} = {value}"))
        names = ", ".join(f'"{name}"' for name in sorted(self.tables))
        self._connection.execute(text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))

    def analyze(self) -> None:
        """Let PostgreSQL know how large the new tables are; what is temporary it does not look at by itself."""
        if self._connection.dialect.name == "postgresql":
            with self._connection.begin():
                for one in self.tables.values():
                    self._connection.execute(text(f'ANALYZE "{one.built.name}"'))

    def leave_out(self, names: Sequence[str]) -> None:
        """Let live tables be as they are."""
        self.tables = {name: one for name, one in self.tables.items() if name not in names}

    def unfilled(self) -> list[str]:
        """Return the tables of which no event tells anything, and which hold rows."""
        with self._connection.begin():
            empty = [one for one in self.tables.values() if not one.count(self._connection, one.built)]
            return sorted(one.live.name for one in empty if one.count(self._connection, one.live))

    def swap(self) -> None:
        """Make the live tables what was built, in the transaction in hand: what refers to others goes first."""
        ordered = list(self.tables.values())
        for one in reversed(ordered):
            one.clear(self._connection)
        for one in ordered:
            one.fill(self._connection)
