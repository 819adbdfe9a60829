"""Commit units of work, and publish what they said after the commit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Engine

from pulsaga import faults
from pulsaga.broker import Broker, Wire
from pulsaga.delivery.blame import verdict
from pulsaga.delivery.outbox import Outbox
from pulsaga.delivery.tables import outbox
from pulsaga.delivery.transaction.unit_of_work import Speaker, UnitOfWork
from pulsaga.telemetry.metrics import TRANSACTION
from pulsaga.telemetry.vitals import OURS

T = TypeVar("T")


class Transactions:
    """The transactions of one process on its service's write database. Thread-safe."""

    def __init__(self, engine: Engine, broker: Broker, speaker: Speaker) -> None:
        self._engine = engine
        self.outbox = Outbox(engine, broker, speaker)

    def commit(self, work: Callable[[UnitOfWork], T]) -> tuple[T, list[Wire]]:
        """Run `work` in one transaction, which also removes the outbox rows confirmed since the one before.

        Return its result and what is now to be published.
        """
        cleared = self.outbox.take_confirmed()
        begun = time.perf_counter()
        try:
            with self._engine.begin() as tx:
                uow = UnitOfWork(tx, self.outbox.speaker)
                for identifier in cleared:
                    uow.remove(outbox, identifier)
                result = work(uow)
                uow.flush()
                faults.reach("flushed", uow.touched())
        except BaseException as error:
            if verdict(error) != "locked":  # else it may be one of these that is locked: the sweep says them again
                self.outbox.confirm(cleared)
            raise
        TRANSACTION.observe(time.perf_counter() - begun)
        for (metric, labels), number in uow.counted.items():
            metric.labels(*labels).inc(number)
        OURS.progress()
        self.outbox.begin(uow.sending)
        faults.reach("committed", uow.touched())
        uow.tell()
        return result, uow.outgoing

    def run(self, work: Callable[[UnitOfWork], T]) -> T:
        """Commit and publish."""
        result, outgoing = self.commit(work)
        self.outbox.publish(outgoing)
        return result

    def run_pages(self, work: Callable[[UnitOfWork], int], page: int) -> None:
        """Commit and publish again and again, until `work` finds less than a page to do."""
        while self.run(work) == page:
            continue
