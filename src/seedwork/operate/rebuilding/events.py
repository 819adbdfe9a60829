"""Read what a service has told out of its `event` tables, page by page, and afterwards what it has told since."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, TextClause, select, text, tuple_

from pulsaga.broker import Delivery
from pulsaga.delivery.avro import Codec, CommittedSchemas
from pulsaga.delivery.dispatch.reader import Received
from pulsaga.delivery.messages import contract_of, message_of
from pulsaga.delivery.tables import event, unpack
from pulsaga.saga.tables import event_archive

PAGE = 1000
"""Events that are read in one transaction."""
MARKS = {
    "postgresql": "SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS xid) AS text), ''",
    "sqlite": "SELECT rowid, id FROM event ORDER BY rowid DESC LIMIT 1",
}
"""What tells, in a database, which rows are committed later: no version, id or time does: they commit in any order.

PostgreSQL: the oldest transaction that is not over. SQLite, where one commits after the other: the newest row."""
SINCE = {
    "postgresql": "age(event.xmin) <= age(CAST(:newest AS xid))",
    "sqlite": "event.rowid > :newest"
    " OR NOT EXISTS (SELECT 1 FROM event AS marked WHERE marked.rowid = :newest AND marked.id = :id)",
}
"""Which rows are behind a mark. On SQLite all are once its row is archived: the number of a row may be given again."""


@dataclass(frozen=True)
class Mark:
    """A moment in the life of a write database: what is committed later is behind it."""

    newest: Any
    id: str


class Events:
    """The events of some types that one service has told, the archived ones among them."""

    def __init__(self, engine: Engine, types: Collection[type], *, archived: bool) -> None:
        self._engine, self._types = engine, {contract_of(cls).name: cls for cls in types}
        self._tables = [event, event_archive] if archived else [event]
        self._codec, self._schemas = Codec(), CommittedSchemas()

    def mark(self) -> Mark:
        """Return this moment."""
        with self._engine.connect() as connection:
            found = connection.execute(text(MARKS[connection.dialect.name])).first()
        return Mark(*(found or (0, "")))

    def pages(self, since: Mark | None = None) -> Iterator[list[Received]]:
        """Yield them page by page, each read in a transaction of its own; or those that were committed since a moment.

        The latter are found by one look at every row: no index knows them, and to have them in order would cost more.
        """
        if since is not None:
            yield from self._recent(since)
            return
        for table in self._tables:
            yield from self._pages_of(table)

    def _pages_of(self, table: Table) -> Iterator[list[Received]]:
        """Yield pages until one is not full: what is told meanwhile is behind the mark that was taken before."""
        page = self._page(table, ("", -1))
        while page:
            yield [self._read(row.wire) for row in page]
            page = self._page(table, (page[-1].aggregate, page[-1].version)) if len(page) == PAGE else ()

    def _page(self, table: Table, last: tuple[str, int]) -> Sequence[Any]:
        key = tuple_(table.c.aggregate, table.c.version)
        query = select(table.c.aggregate, table.c.version, table.c.wire)
        query = query.where(table.c.type.in_(self._types), key > last)
        with self._engine.connect() as connection:
            return connection.execute(query.order_by(table.c.aggregate, table.c.version).limit(PAGE)).all()

    def _recent(self, since: Mark) -> Iterator[list[Received]]:
        with self._engine.connect() as connection:
            query = select(event.c.wire).where(event.c.type.in_(self._types), _behind(connection, since))
            found = connection.execute(query, execution_options={"stream_results": True, "yield_per": PAGE})
            for page in found.scalars().partitions():
                yield list(map(self._read, page))

    def _read(self, packed: bytes) -> Received:
        delivery = Delivery(unpack(packed), "", None)
        wire = delivery.wire
        try:
            cls, writer = self._types[wire.topic], self._schemas[wire.properties["ce_dataschema"]]
            message = message_of(wire.properties, self._codec.decode(cls, wire.body, writer))
        except Exception as error:  # what is wrong with one event is said of that one
            return Received(delivery, b"", error=error)
        return Received(delivery, b"", message)


def _behind(connection: Connection, mark: Mark) -> TextClause:
    condition = text(f"({SINCE[connection.dialect.name]})").bindparams(newest=mark.newest)
    return condition.bindparams(id=mark.id) if connection.dialect.name == "sqlite" else condition
