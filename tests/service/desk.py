"""Sit one service's worker down with a real database and a broker that keeps what is published."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Table, func, select, update
from tests.service.fakes import FakeBroker
from tests.service.passwords import SYSTEM

from pulsaga.broker import Delivery, Wire
from pulsaga.delivery.avro import Codec, CommittedSchemas
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.dispatcher import Dispatcher
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.dispatch.reader import Reader
from pulsaga.delivery.dispatch.worker import Worker
from pulsaga.delivery.messages import Context, Message, contract_of, new_id, properties_of
from pulsaga.delivery.tables import failure
from pulsaga.delivery.transaction.transactions import Transactions
from pulsaga.delivery.transaction.unit_of_work import Speaker
from pulsaga.running.runtime import Runtime
from pulsaga.service import Service
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga_program.databases import prepare_databases

KEYS = dict.fromkeys(
    ("VAULT_KEY", "LINK_KEY", "TOKEN_KEY", "RESET_KEY", "SIGNING_KEY", "INTERNAL_TOKEN", "WEBHOOK_SECRET"),
    "aWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWk=",
)


class Acks:
    """A subscription that only notes what was acknowledged."""

    def __init__(self) -> None:
        self.acked: list[Delivery] = []

    def ack(self, deliveries: Any) -> None:
        self.acked += deliveries

    def receive(self, limit: int, timeout_s: float) -> list[Delivery]:
        return []

    def close(self) -> None: ...


class Feed(Acks):
    """A subscription that hands out batches in turn, and says when the loop has asked for more than there are."""

    def __init__(self, *batches: list[Delivery]) -> None:
        super().__init__()
        self._batches: queue.Queue[list[Delivery]] = queue.Queue()
        self.drained = threading.Event()
        for batch in batches:
            self._batches.put(batch)

    def receive(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Give the next batch, or nothing after a moment."""
        if self._batches.empty():
            self.drained.set()
        try:
            return self._batches.get(timeout=min(timeout_s, 0.05))
        except queue.Empty:
            return []


@dataclass
class Desk:
    """One service's worker with its database, and a broker that keeps what is published."""

    runtime: Runtime
    service: Service
    broker: FakeBroker
    worker: Worker
    acks: Acks

    def rows(self, table: Table) -> list[Any]:
        with self.runtime.write.connect() as connection:
            return list(connection.execute(select(table)).mappings())

    def count(self, table: Table) -> int:
        with self.runtime.write.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

    def said(self, name: str) -> list[Wire]:
        return [wire for wire in self.broker.published if wire.topic == name]

    def read(self, cls: type, wire: Wire) -> Any:
        """Read the body of a message by the schema that is committed for it."""
        return self.runtime.codec.decode(cls, wire.body, CommittedSchemas()[contract_of(cls).dataschema])

    def make_due(self) -> None:
        with self.runtime.write.begin() as tx:
            tx.execute(update(failure).values(due_at=0))

    def retry_until_buried(self) -> None:
        for _ in range(10):
            self.make_due()
            self.worker.retry_failures()


def make_desk(
    settings: Settings, name: str, handlers: Mapping[type, Handler[Any]] | None = None, system: System = SYSTEM
) -> Desk:
    prepare_databases(system, settings, system[name])
    return sit_down(settings, name, handlers, system)


def sit_down(settings: Settings, name: str, handlers: Mapping[type, Handler[Any]] | None, system: System) -> Desk:
    """Make a desk whose databases are there already."""
    service = system[name]
    service = replace(service, handlers=list(handlers.values())) if handlers else service
    broker, codec = FakeBroker(), Codec()
    write = open_database(settings, name, "write", "owner")
    transactions = Transactions(
        write, broker, Speaker(name, codec, settings.clock_offset, settings.keys, settings.sweep_after)
    )
    given = {"attempts": settings.failure_attempts, "delay_s": settings.failure_delay}
    rules = Dispatcher(service.handling, service.refused, service.failed, withdrawn=service.withdrawn, **given)
    acks = Acks()
    worker = Worker(rules, Reader(service.handling, codec, broker), transactions, acks, settings.batch_limit)
    return Desk(Runtime(system, settings, name, broker, codec, write, transactions), service, broker, worker, acks)


CODEC = Codec()


def deliver(body: Any, *, identifier: str = "", saga_id: str = "", **rest: Any) -> Delivery:
    identifier = identifier or new_id()
    context = Context(saga_id or identifier)
    message = Message(body, identifier, "/test", "ada", "2026-01-01T00:00:00.000Z", context, **rest)
    wire = Wire(contract_of(body).name, context.saga_id, properties_of(message), CODEC.encode(body))
    return Delivery(wire, str(contract_of(body).version), None)


def arrived(wire: Wire) -> Delivery:
    """What one service published, as another receives it."""
    return Delivery(wire, wire.properties["ce_dataschema"].rpartition(":")[2], None)


def exchange(desks: Sequence[Desk]) -> None:
    """Carry what each service publishes to those that consume it, until nobody says anything new."""
    carried = dict.fromkeys(range(len(desks)), 0)
    while any(carried[number] < len(desk.broker.published) for number, desk in enumerate(desks)):
        for number, desk in enumerate(desks):
            fresh, carried[number] = desk.broker.published[carried[number] :], len(desk.broker.published)
            for other in desks:
                if heard := [arrived(wire) for wire in fresh if wire.topic in other.service.consumes]:
                    other.worker.settle(heard)
