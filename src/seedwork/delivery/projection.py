"""Bring read databases up to date: a projection turns an event into rows, the newest version of each row wins.

Every event carries the full state of its aggregate, so a projection needs neither order nor an inbox: a table with a
`version` column is upserted `WHERE version < new`, a history keyed `(aggregate, version)` keeps what it has.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy import Engine, Table, select, update

from pulsaga import faults
from pulsaga.broker import Delivery, Subscription
from pulsaga.delivery import database, spans
from pulsaga.delivery.blame import verdict
from pulsaga.delivery.dispatch.failures import failure_row, stored_delivery
from pulsaga.delivery.dispatch.reader import Reader, Received, readable
from pulsaga.delivery.loop import keep_trying, receive_until
from pulsaga.delivery.messages import AnyMessage, Message, made_at
from pulsaga.delivery.tables import failure
from pulsaga.delivery.transaction.rows import Delete, Insert, Row, change
from pulsaga.telemetry import traces
from pulsaga.telemetry.metrics import LAG
from pulsaga.text import describe

log = structlog.get_logger()

FAILURE_PAGE = 50
LONGEST_DELAY_S = 3600.0
BUSY, GATHER_S = 32, 0.1
"""After a batch of so many messages, seconds in which the next ones gather: fewer commits, and little later."""

B = TypeVar("B")
Changed = Callable[[Sequence[AnyMessage]], None]
Rows = dict[Table, dict[tuple[Any, ...], Row]]


@dataclass(frozen=True)
class Projection(Generic[B]):
    """How an event becomes rows of a read database; each names its table and is whole."""

    event: type[B]
    function: Callable[[Message[B]], Iterable[tuple[Table, Mapping[str, Any]]]]


class Projector:
    """Run a service's projections batch by batch; tell `changed` after each commit."""

    def __init__(
        self,
        projections: Mapping[type, Projection[Any]],
        reader: Reader,
        engine: Engine,
        subscription: Subscription,
        limit: int,
        changed: Changed | None = None,
    ) -> None:
        self._projections, self._reader, self._engine = projections, reader, engine
        self._subscription, self._limit, self._changed = subscription, limit, changed
        self._stopping = threading.Event()

    def run(self) -> None:
        """Loop until `stop`; the batch in hand is finished first."""
        receive_until(self._stopping, self._subscription, self._limit, self.settle)

    def stop(self) -> None:
        """Ask the loop to end after the batch in hand."""
        self._stopping.set()

    def settle(self, batch: Sequence[Delivery]) -> None:
        """Project a batch until it is committed, then acknowledge it and tell who waits."""
        received = keep_trying(self._stopping, lambda: self._project(batch))
        if received is None:
            return
        messages = readable(received)
        if messages:
            LAG.set(max(0.0, time.time() - made_at(messages[0].id)))
        faults.reach("projected", messages)
        self._subscription.ack(batch)
        self._tell(messages)
        if len(batch) >= BUSY:
            self._stopping.wait(GATHER_S)

    def _project(self, batch: Sequence[Delivery]) -> list[Received]:
        began = time.time_ns()
        received = self._reader.read(batch)
        faults.reach("projecting", readable(received))
        self._commit(received)
        if traces.recorder:
            spans.projected(received, began)
        return received

    def _tell(self, messages: Sequence[AnyMessage]) -> None:
        try:
            if self._changed and not faults.reach("telling", messages):
                self._changed(messages)
        except Exception as error:  # it is committed: who waits looks again by itself
            log.warning("nobody told", error=describe(error))

    def _commit(self, batch: Sequence[Received], *, hurried: bool = False) -> None:
        try:
            self._write(batch, hurried=hurried)
        except Exception as error:
            judged = verdict(error)
            if judged in ("wait", "reconnect"):
                raise
            if len(batch) == 1:
                self._keep_failures([(batch[0], error)])
                return
            hurried = hurried or judged == "locked"
            self._commit(batch[: len(batch) // 2], hurried=hurried)
            self._commit(batch[len(batch) // 2 :], hurried=hurried)

    def _write(self, batch: Sequence[Received], *, hurried: bool) -> None:
        rows, failed = projected(self._projections, batch)
        with self._engine.begin() as tx:
            if hurried:
                database.hurry(tx)
            if rows:
                change(tx, [newest(table, rows[table]) for table in sorted(rows, key=lambda t: t.name)])
        self._keep_failures(failed)

    def _keep_failures(self, failed: Sequence[tuple[Received, Exception]]) -> None:
        if failed:
            with self._engine.begin() as tx:
                now = database.now(tx)
                rows = [{**failure_row(r, e, 1, now), "due_at": now} for r, e in failed]
                change(tx, [Insert(failure, rows, "ignore")])

    # --- what could not be projected

    def retry_failures(self) -> None:
        """Project due failures again, each alone; what fails again waits as long as it is old, an hour at most."""
        with self._engine.connect() as connection:
            now = database.now(connection)
            due = select(failure).where(failure.c.due_at <= now).order_by(failure.c.due_at).limit(FAILURE_PAGE)
            rows = [dict(row) for row in connection.execute(due).mappings()]
        for row in rows:
            if kept := stored_delivery(row):
                self._retry_one(row, self._reader.read([kept]), now)
            else:
                self._put_off(row, now)

    def _retry_one(self, row: Row, received: Sequence[Received], now: float) -> None:
        if error := self._retry(row["id"], received):
            self._put_off({**row, **failure_row(received[0], error, row["attempts"] + 1, row["at"])}, now)
        else:
            self._tell(readable(received))

    def _retry(self, identifier: str, received: Sequence[Received]) -> Exception | None:
        rows, failed = projected(self._projections, received)
        if failed:
            return failed[0][1]
        try:
            with self._engine.begin() as tx:
                database.hurry(tx)
                change(tx, [*(newest(table, rows[table]) for table in rows), Delete(failure, [identifier])])
        except Exception as error:
            if verdict(error) in ("wait", "reconnect"):
                raise
            return error
        return None

    def _put_off(self, row: Row, now: float) -> None:
        due_at = now + min(LONGEST_DELAY_S, max(1.0, now - row["at"]))
        with self._engine.begin() as tx:
            tx.execute(update(failure).where(failure.c.id == row["id"]).values({**row, "due_at": due_at}))


def projected(
    projections: Mapping[type, Projection[Any]], batch: Sequence[Received]
) -> tuple[Rows, list[tuple[Received, Exception]]]:
    """Return what events become, the newest row of each key, and those that could not be projected, each with why."""
    rows: Rows = defaultdict(dict)
    failed: list[tuple[Received, Exception]] = []
    for received in batch:
        try:
            if received.message is None:
                raise received.error or ValueError("nothing to read")
            for table, row in projections[type(received.message.body)].function(received.message):
                _keep_newest(rows[table], table, dict(row))
        except Exception as error:
            failed.append((received, error))
    return rows, failed


def _keep_newest(rows: dict[tuple[Any, ...], Row], table: Table, row: Row) -> None:
    key = tuple(row[column.name] for column in table.primary_key.columns)
    if key not in rows or rows[key]["version"] < row["version"]:
        rows[key] = row


def newest(table: Table, rows: Mapping[tuple[Any, ...], Row]) -> Insert:
    """Return the change that writes rows, of which a table keeps the newest; a history keeps what it has."""
    ordered = [row for _, row in sorted(rows.items())]
    return Insert(table, ordered, "ignore" if "version" in table.primary_key.columns else "if-newer")
