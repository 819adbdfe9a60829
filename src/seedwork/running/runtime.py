"""Connect one process of a service to the broker and to its databases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy import Engine, select

from pulsaga import broker as brokers
from pulsaga.broker import Broker
from pulsaga.delivery.avro import Codec, CommittedSchemas
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import contract_of
from pulsaga.delivery.tables import event, unpack
from pulsaga.delivery.transaction.transactions import Transactions
from pulsaga.delivery.transaction.unit_of_work import Speaker
from pulsaga.settings import Settings
from pulsaga.system import System

B = TypeVar("B")


@dataclass(frozen=True)
class Runtime:
    """What one process of a service works with: one broker connection, its databases, its transactions."""

    system: System
    settings: Settings
    service: str
    broker: Broker
    codec: Codec
    write: Engine
    transactions: Transactions

    @property
    def public_url(self) -> str:
        """Where people reach the front door."""
        return self.system.public_url(self.settings)

    def told(self, cls: type[B], aggregate: str) -> list[B]:
        """Return what this service has told of an aggregate by events of one class, the oldest first."""
        query = select(event.c.wire).where(event.c.aggregate == aggregate, event.c.type == contract_of(cls).name)
        with self.write.connect() as connection:
            wires = [unpack(packed) for packed in connection.execute(query.order_by(event.c.version)).scalars()]
        schemas = CommittedSchemas()
        return [self.codec.decode(cls, wire.body, schemas[wire.properties["ce_dataschema"]]) for wire in wires]

    def url_of(self, service: str) -> str:
        """Return where another service's web process is reached."""
        return self.system.url_of(self.settings, service)


def open_runtime(system: System, settings: Settings, service: str) -> Runtime:
    """Connect to broker and write database, as the owner of the service's data."""
    broker = brokers.connect(settings.broker_url, CommittedSchemas(), settings.namespace, settings.broker_access)
    write = open_database(settings, service, "write", "owner")
    return runtime_of(system, settings, service, broker, write)


def runtime_of(system: System, settings: Settings, service: str, broker: Broker, write: Engine) -> Runtime:
    """Return the runtime of a process that has a broker and a write database."""
    codec = Codec()
    speaker = Speaker(service, codec, settings.clock_offset, partial(_keys, settings, {}), settings.sweep_after)
    return Runtime(system, settings, service, broker, codec, write, Transactions(write, broker, speaker))


def _keys(settings: Settings, known: dict[str, tuple[bytes, ...]], name: str) -> tuple[bytes, ...]:
    if name not in known:
        known[name] = settings.keys(name)
    return known[name]
