"""Run one process of a service: the real worker, projector, outbox and duties, on a link to the broker in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from tests.simulation.broker import Consumer, Link, Memory
from tests.simulation.disks import Disks
from tests.simulation.faults import replaced

from pulsaga.delivery.avro import Codec
from pulsaga.delivery.dispatch.dispatcher import Dispatcher
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.dispatch.reader import Reader, Received
from pulsaga.delivery.dispatch.worker import Worker
from pulsaga.delivery.loop import Duty
from pulsaga.delivery.messages import Message
from pulsaga.delivery.projection import Projector
from pulsaga.delivery.transaction.transactions import Transactions
from pulsaga.delivery.transaction.unit_of_work import Speaker, UnitOfWork
from pulsaga.running.runtime import Runtime
from system import SYSTEM

Poison = Callable[[str, Message], Exception | None]
"""Say which error a service's handler runs into over a message, if any."""
CODEC = Codec()


class Replica:
    """One process of a service; `start` makes it anew, with nothing in its memory."""

    def __init__(self, disks: Disks, memory: Memory, service: str, number: int, poison: Poison) -> None:
        self.service, self.name = disks.services[service], f"{service}#{number}"
        self._disks, self._memory, self._poison = disks, memory, poison
        self.consumers: list[tuple[Consumer, Callable[[Any], None]]] = []
        self.start()

    def start(self) -> None:
        """Begin, or begin again after a death."""
        self.stop()
        self.woken: set[str] = set()
        self.link, settings, name = Link(self._memory), self._disks.settings, self.service.name
        write = self._disks.engines[name, "write"]
        speaker = Speaker(name, CODEC, 0.0, settings.keys, settings.sweep_after)
        self.transactions = Transactions(write, self.link, speaker)
        self.runtime = Runtime(SYSTEM, settings, name, self.link, CODEC, write, self.transactions)
        duties = [make(self.runtime) for make in self.service.duties]
        self.duties = {duty.name: duty.work for duty in duties}
        self.duties |= {"outbox": self.transactions.outbox.clear, "sweep": self.transactions.outbox.sweep}
        if name == "bff":
            self.duties["publisher"] = lambda: self.transactions.outbox.publish_waiting(0.0)
        if self.service.handlers:
            self._add_worker(duties)
        if self.service.projections:
            self._add_projector()

    def stop(self) -> None:
        """Die: what was not acknowledged goes back."""
        for consumer, _ in self.consumers:
            consumer.close()
        self.consumers = []

    def _add_worker(self, duties: list[Duty]) -> None:
        service, settings = self.service, self._disks.settings
        inbox = Dispatcher(
            {cls: self._poisonable(handler) for cls, handler in service.handling.items()},
            service.refused,
            service.failed,
            withdrawn=service.withdrawn,
            attempts=settings.failure_attempts,
            delay_s=settings.failure_delay,
        )
        consumer = self.link.subscribe(service.name, service.consumes)
        worker = Worker(
            inbox, Reader(service.handling, CODEC, self.link), self.transactions, consumer, settings.batch_limit
        )
        worker.handled += [self._listener(duty) for duty in duties]
        self.duties["failures"] = worker.retry_failures
        self.consumers.append((consumer, worker.settle))

    def _add_projector(self) -> None:
        service = self.service
        consumer = self.link.subscribe(service.projector, service.projects)
        projector = Projector(
            service.projecting,
            Reader(service.projecting, CODEC, self.link),
            self._disks.engines[service.name, "read"],
            consumer,
            self._disks.settings.batch_limit,
            service.changed(self.runtime) if service.changed else None,
        )
        self.consumers.append((consumer, projector.settle))

    def _listener(self, duty: Duty) -> Callable[[Sequence[Received]], None]:
        def hear(batch: Sequence[Received]) -> None:
            if duty.woken_by(batch):
                self.woken.add(duty.name)

        return hear

    def _poisonable(self, handler: Handler) -> Handler:
        def handle(message: Message, uow: UnitOfWork) -> None:
            error = self._poison(self.service.name, message)
            with _speechless(uow, error):
                handler.function(message, uow)
            if error:
                raise error

        return replace(handler, function=handle)


@contextmanager
def _speechless(uow: UnitOfWork, error: Exception | None) -> Iterator[None]:
    """Have a handler fail half-way: with its rows buffered, as it is about to say so."""

    def fail(*_said: Any, **_more: Any) -> Message:
        assert error
        raise error

    with replaced(uow, "record", fail) if error else nullcontext():
        yield
