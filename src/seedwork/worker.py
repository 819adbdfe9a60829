"""Run the loop: receive a batch, handle it in one transaction, acknowledge, publish.

Acknowledging comes after the commit, never before. Only the database's word against a row blames a message; anything
else that goes wrong is somebody being down, for which the loop waits and tries the same batch again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from seedwork.broker import Delivery, Subscription, Wire
from seedwork.delivery import failure, unpack_delivery
from seedwork.errors import Stale, Unavailable
from seedwork.inbox import FIRST, Inbox, Reader, Received, Retry
from seedwork.relay import Relay
from seedwork.rows import Row
from seedwork.unit_of_work import UnitOfWork

log = structlog.get_logger()
RECEIVE_S = 1.0
LONGEST_PAUSE_S = 5.0
FAILURE_PAGE = 50
RETRY_LEASE_S = 30.0
"""Seconds for which a taken failure row is left alone by other replicas."""


class Worker:
    """Take messages of one service, batch by batch."""

    def __init__(self, inbox: Inbox, reader: Reader, relay: Relay, subscription: Subscription, limit: int) -> None:
        self._inbox, self._reader, self._relay = inbox, reader, relay
        self._subscription, self._limit = subscription, limit
        self._stopping = threading.Event()
        self.handled: list[Callable[[Sequence[Received]], None]] = []
        """Told of every batch after its commit."""

    def run(self) -> None:
        """Loop until `stop`; the batch in hand is finished first."""
        pause = Pause(self._stopping)
        while not self._stopping.is_set():
            try:
                batch = self._subscription.receive(self._limit, RECEIVE_S)
            except Unavailable as down:
                pause.wait(down)
                continue
            if batch:
                self.settle(batch)

    def stop(self) -> None:
        """Ask the loop to end after the batch in hand."""
        self._stopping.set()

    def settle(self, batch: Sequence[Delivery]) -> None:
        """Handle a batch until it is committed, then acknowledge and publish; stopped early, acknowledge nothing."""
        pause = Pause(self._stopping)
        while True:
            try:
                received = self._reader.read(batch)
                outgoing = self._commit(received)
                break
            except (Unavailable, Stale, SQLAlchemyError) as down:
                if not pause.wait(down):
                    return
        self._subscription.ack(batch)
        for told in self.handled:
            told(received)
        self._relay.publish(outgoing)

    def _commit(self, batch: Sequence[Received], retry: Retry = FIRST) -> list[Wire]:
        try:
            return self._once(batch, retry)
        except (IntegrityError, DataError, ValueError):
            pass  # a rival's row may be visible by now: the whole batch once more
        try:
            return self._once(batch, retry)
        except (IntegrityError, DataError, ValueError) as blame:
            if len(batch) == 1:
                return self._once(batch, retry, blame)
        half = len(batch) // 2
        return self._commit(batch[:half]) + self._commit(batch[half:])

    def _once(self, batch: Sequence[Received], retry: Retry, blamed: Exception | None = None) -> list[Wire]:
        def work(uow: UnitOfWork) -> None:
            if retry.first_at is not None:
                uow.remove(failure, batch[0].id)
            self._inbox.handle(batch, uow, retry, blamed)

        return self._relay.commit(work)[1]

    def retry_failures(self) -> None:
        """Handle due failures again, each alone."""
        for row in self._relay.commit(_take_failures)[0]:
            if self._stopping.is_set():
                return
            received = self._reader.read([unpack_delivery(row["delivery"])])
            self._relay.publish(self._commit(received, Retry(row["attempts"], row["at"])))


def _take_failures(uow: UnitOfWork) -> list[Row]:
    rows = uow.claim(failure, failure.c.due_at <= uow.now, failure.c.due_at, FAILURE_PAGE)
    for row in rows:
        uow.remove(failure, row["id"])
        uow.append(failure, {**row, "due_at": uow.now + RETRY_LEASE_S})
    return rows


class Pause:
    """Wait longer each time something is down."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping, self._seconds = stopping, 0.05

    def wait(self, down: Exception) -> bool:
        """Wait; return False when the loop is to stop instead."""
        log.warning("waiting", seconds=self._seconds, error=f"{type(down).__name__}: {str(down).splitlines()[0][:300]}")
        stopped = self._stopping.wait(self._seconds)
        self._seconds = min(LONGEST_PAUSE_S, self._seconds * 2)
        return not stopped


def _never(_batch: Sequence[Received]) -> bool:
    return False


@dataclass(frozen=True)
class Duty:
    """Do something beside the loop: every `every_s` seconds, and at once after a batch that `woken_by` says yes to."""

    name: str
    work: Callable[[], object]
    every_s: float = 1.0
    woken_by: Callable[[Sequence[Received]], bool] = _never


class DutyThread(threading.Thread):
    """Run one duty until stopped; an outage is waited out."""

    def __init__(self, duty: Duty) -> None:
        super().__init__(name=duty.name, daemon=True)
        self._duty = duty
        self._woken = threading.Event()
        self._stopping = threading.Event()

    def run(self) -> None:
        pause = Pause(self._stopping)
        while not self._stopping.is_set():
            self._woken.wait(self._duty.every_s)
            self._woken.clear()
            try:
                self._duty.work()
                pause = Pause(self._stopping)
            except (Unavailable, Stale, SQLAlchemyError) as down:
                pause.wait(down)

    def handled(self, batch: Sequence[Received]) -> None:
        """Run the duty at once when this batch gives it something to do."""
        if self._duty.woken_by(batch):
            self._woken.set()

    def stop(self) -> None:
        """End after the turn in hand."""
        self._stopping.set()
        self._woken.set()
