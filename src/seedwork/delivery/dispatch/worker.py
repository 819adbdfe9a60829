"""Run the loop: receive a batch, handle it in one transaction, acknowledge, publish.

Acknowledging comes after the commit, never before. While somebody is down the loop waits and tries the same batch
again; any other error blames a message, which is found by halving the batch (`pulsaga.delivery.blame` says which).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from pulsaga import faults
from pulsaga.broker import Delivery, Subscription, Wire
from pulsaga.delivery.blame import Verdict, verdict
from pulsaga.delivery.dispatch.dispatcher import Dispatcher
from pulsaga.delivery.dispatch.failures import FIRST, Retry, stored_delivery
from pulsaga.delivery.dispatch.pausing import is_paused
from pulsaga.delivery.dispatch.reader import Reader, Received, readable
from pulsaga.delivery.loop import keep_trying, receive_until
from pulsaga.delivery.tables import failure
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.transactions import Transactions
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import Unavailable

FAILURE_PAGE = 50
RETRY_LEASE_S = 30.0
"""Seconds for which a taken failure row is left alone by other replicas."""


class Worker:
    """Take messages of one service, batch by batch."""

    def __init__(
        self, dispatcher: Dispatcher, reader: Reader, transactions: Transactions, subscription: Subscription, limit: int
    ) -> None:
        self._dispatcher, self._reader, self._transactions = dispatcher, reader, transactions
        self._subscription, self._limit = subscription, limit
        self._stopping = threading.Event()
        self.handled: list[Callable[[Sequence[Received]], None]] = []
        """Told of every batch after its commit."""

    def run(self) -> None:
        """Loop until `stop`; the batch in hand is finished first."""
        receive_until(self._stopping, self._subscription, self._limit, self.settle)

    def stop(self) -> None:
        """Ask the loop to end after the batch in hand."""
        self._stopping.set()

    def settle(self, batch: Sequence[Delivery]) -> None:
        """Handle a batch until it is committed, then acknowledge and publish; stopped early, acknowledge nothing."""
        done = keep_trying(self._stopping, lambda: self._handle(batch))
        if done is None:
            return
        received, outgoing = done
        if not faults.reach("acking", readable(received)):
            self._subscription.ack(batch)
        faults.reach("acked", readable(received))
        for told in self.handled:
            told(received)
        self._transactions.outbox.publish(outgoing)

    def _handle(self, batch: Sequence[Delivery]) -> tuple[list[Received], list[Wire]]:
        received = self._reader.read(batch)
        faults.reach("received", readable(received))
        return received, self._commit(received)

    def _commit(self, batch: Sequence[Received], retry: Retry = FIRST, *, pass_locked: bool = False) -> list[Wire]:
        try:
            return self._once(batch, retry, pass_locked=pass_locked)
        except Exception as error:
            pass_locked = pass_locked or _judged(error) == "locked"
        try:  # a rival's row may be visible by now: the whole batch once more, without what is locked
            return self._once(batch, retry, pass_locked=pass_locked)
        except Exception as error:
            blame = Unavailable(f"a row is locked: {error}") if _judged(error) == "locked" else error
        if len(batch) == 1:
            return self._once(batch, retry, blame, pass_locked=True)
        half = len(batch) // 2
        return self._commit(batch[:half], pass_locked=pass_locked) + self._commit(batch[half:], pass_locked=pass_locked)

    def _once(
        self,
        batch: Sequence[Received],
        retry: Retry,
        blamed: Exception | None = None,
        *,
        pass_locked: bool = False,
    ) -> list[Wire]:
        def work(uow: UnitOfWork) -> None:
            uow.pass_locked = pass_locked
            if retry.first_at is not None:
                uow.remove(failure, batch[0].id)
            self._dispatcher.handle(batch, uow, retry, blamed)

        return self._transactions.commit(work)[1]

    def retry_failures(self) -> None:
        """Handle due failures again, each alone; one that still meets a lock does not hold up the others."""
        for row in self._transactions.commit(_take_failures)[0]:
            if self._stopping.is_set():
                return
            if kept := stored_delivery(row):
                received = self._reader.read([kept])
                self._transactions.outbox.publish(
                    self._commit(received, Retry(row["attempts"], row["at"]), pass_locked=True)
                )


def _judged(error: Exception) -> Verdict:
    """Return the verdict on an error that concerns this batch; raise it when somebody is down."""
    judged = verdict(error)
    if judged in ("wait", "reconnect"):
        raise error
    return judged


def _take_failures(uow: UnitOfWork) -> list[Row]:
    rows = uow.claim(failure, (failure.c.due_at <= uow.now) & ~is_paused(), failure.c.due_at, FAILURE_PAGE)
    for row in rows:
        uow.remove(failure, row["id"])
        uow.append(failure, {**row, "due_at": uow.now + RETRY_LEASE_S})
    return rows
