"""Publish what was committed: at once after the commit, and by the sweep when that did not happen.

An outbox row is removed only after the broker confirmed its message: by the next commit, or a second later.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
from sqlalchemy import Engine, select, update

from seedwork import database, faults
from seedwork.broker import Broker, Wire
from seedwork.delivery import outbox, unpack
from seedwork.errors import ProtoolsError
from seedwork.rows import Delete, change
from seedwork.unit_of_work import Speaker, UnitOfWork

log = structlog.get_logger()
T = TypeVar("T")
SWEEP_PAGE = 500
QUEUE_LIMIT = 10_000
"""Wires that wait for the background publisher; beyond it they are left to the sweep."""


class Relay:
    """Commit units of work of one process and publish what they said. Thread-safe."""

    def __init__(self, engine: Engine, broker: Broker, speaker: Speaker) -> None:
        self._engine, self._broker, self._speaker = engine, broker, speaker
        self._confirmed: list[str] = []
        self._lock = threading.Lock()
        self._later: queue.SimpleQueue[list[Wire]] = queue.SimpleQueue()

    def commit(self, work: Callable[[UnitOfWork], T]) -> tuple[T, list[Wire]]:
        """Run `work` in one transaction, which also removes the outbox rows confirmed since the one before.

        Return its result and what is now to be published.
        """
        cleared = self._take()
        try:
            with self._engine.begin() as tx:
                uow = UnitOfWork(tx, self._speaker)
                for identifier in cleared:
                    uow.remove(outbox, identifier)
                result = work(uow)
                uow.flush()
                faults.reach("flushed", uow.touched())
        except BaseException:
            self._give_back(cleared)
            raise
        faults.reach("committed", uow.touched())
        return result, uow.outgoing

    def run(self, work: Callable[[UnitOfWork], T]) -> T:
        """Commit and publish."""
        result, outgoing = self.commit(work)
        self.publish(outgoing)
        return result

    def run_pages(self, work: Callable[[UnitOfWork], int], page: int) -> None:
        """Commit and publish again and again, until `work` finds less than a page to do."""
        while self.run(work) == page:
            continue

    def publish(self, wires: Sequence[Wire]) -> None:
        """Publish; what is not confirmed is left to the sweep."""
        if not wires or faults.reach("publishing", wires):
            return
        try:
            self._broker.publish(wires)
        except ProtoolsError as error:
            log.warning("not published, left to the sweep", messages=len(wires), error=str(error))
        else:
            faults.reach("published", wires)
            self._give_back([wire.properties["ce_id"] for wire in wires])

    def publish_later(self, wires: list[Wire]) -> None:
        """Leave publishing to the background thread; never waits."""
        if self._later.qsize() < QUEUE_LIMIT:
            self._later.put(wires)

    def publish_waiting(self, timeout_s: float = 1.0) -> None:
        """Publish what `publish_later` was given, all of it in one batch; the background thread's one turn."""
        try:
            wires = self._later.get(timeout=timeout_s)
            while not self._later.empty() and len(wires) < SWEEP_PAGE:
                wires = wires + self._later.get_nowait()
        except queue.Empty:
            return
        self.publish(wires)

    def clear(self) -> None:
        """Remove the outbox rows of confirmed messages; for times without a next commit."""
        cleared = self._take()
        if not cleared:
            return
        faults.reach("clearing")
        try:
            with self._engine.begin() as tx:
                change(tx, [Delete(outbox, cleared)])
        except BaseException:
            self._give_back(cleared)
            raise

    def sweep(self) -> int:
        """Publish the outbox rows that are due; return how many there were."""
        with self._engine.begin() as tx:
            now = database.now(tx, self._speaker.clock_offset)
            due = select(outbox.c.id, outbox.c.wire).where(outbox.c.due_at <= now).order_by(outbox.c.due_at)
            rows = tx.execute(due.limit(SWEEP_PAGE).with_for_update(skip_locked=True)).all()
            if not rows:
                return 0
            taken = outbox.c.id.in_([row.id for row in rows])
            tx.execute(update(outbox).where(taken).values(due_at=now + self._speaker.sweep_after_s))
        log.info("sweep", messages=len(rows))
        wires = [unpack(row.wire) for row in rows]
        faults.reach("sweeping", wires)
        self.publish(wires)
        return len(rows)

    def _take(self) -> list[str]:
        with self._lock:
            taken, self._confirmed = self._confirmed, []
        return taken

    def _give_back(self, identifiers: list[str]) -> None:
        with self._lock:
            self._confirmed += identifiers
