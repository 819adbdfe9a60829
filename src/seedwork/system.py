"""Put a service together from its rooms: which module holds what is a convention, an absent room is empty.

`<service>/messages.py` MESSAGES · `handlers.py` HANDLERS, CHECK, DUTIES · `projections.py` PROJECTIONS, CHANGED ·
`tables.py` WRITE, READ · `__init__.py` create_app.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Engine, MetaData

from pulsaga import broker as brokers
from pulsaga.broker import Broker
from pulsaga.delivery.avro import Codec, CommittedSchemas
from pulsaga.delivery.database import open_database
from pulsaga.delivery.inbox import Handler
from pulsaga.delivery.loop import Duty
from pulsaga.delivery.projection import Changed, Projection
from pulsaga.delivery.relay import Relay
from pulsaga.delivery.unit_of_work import Speaker
from pulsaga.settings import Settings


@dataclass(frozen=True)
class Service:
    """Hold what a service is made of."""

    name: str
    messages: Sequence[type]
    handlers: Mapping[type, Handler]
    projections: Mapping[type, Projection]
    check: Callable[[Runtime], None] | None
    """What a process makes sure of before it does anything; raises SettingError."""
    duties: Sequence[DutyMaker]
    changed: Callable[[Runtime], Changed] | None
    write: MetaData
    read: MetaData

    def answer(self, kind: str) -> type | None:
        """Return the service's own `<name>.command-refused` or `.command-failed` class, if it declares one."""
        return next((m for m in self.messages if m.contract.name == f"{self.name}.{kind}"), None)  # type: ignore[attr-defined]

    @property
    def consumes(self) -> list[str]:
        """Topics its worker reads."""
        return [cls.contract.name for cls in self.handlers]  # type: ignore[attr-defined]

    @property
    def projector(self) -> str:
        """Name of its projector's subscription."""
        return f"{self.name}-projector"

    @property
    def projects(self) -> list[str]:
        """Topics its projector reads."""
        return [cls.contract.name for cls in self.projections]  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Runtime:
    """Hold what one process of a service works with: one broker connection, its databases, its relay."""

    settings: Settings
    service: str
    broker: Broker
    codec: Codec
    write: Engine
    relay: Relay


DutyMaker = Callable[[Runtime], Duty]


def load(name: str) -> Service:
    """Import the rooms of a service and return what they hold."""
    return Service(
        name=name,
        messages=_room(name, "messages", "MESSAGES", ()),
        handlers=_room(name, "handlers", "HANDLERS", {}),
        projections=_room(name, "projections", "PROJECTIONS", {}),
        check=_room(name, "handlers", "CHECK", None),
        duties=_room(name, "handlers", "DUTIES", ()),
        changed=_room(name, "projections", "CHANGED", None),
        write=_room(name, "tables", "WRITE", MetaData()),
        read=_room(name, "tables", "READ", MetaData()),
    )


def open_runtime(settings: Settings, service: str) -> Runtime:
    """Connect to broker and write database, as the owner of the service's data."""
    schemas = CommittedSchemas()
    codec = Codec(schemas)
    broker = brokers.connect(settings.broker_url, schemas, settings.namespace, settings.broker_access)
    write = open_database(settings, service, "write", "owner")
    speaker = Speaker(service, codec, settings.clock_offset, cache(settings.key), settings.sweep_after)
    return Runtime(settings, service, broker, codec, write, Relay(write, broker, speaker))


def _room(service: str, module: str, name: str, empty: Any) -> Any:
    full = f"{service}.{module}"
    if importlib.util.find_spec(full) is None:
        return empty
    return getattr(importlib.import_module(full), name, empty)
