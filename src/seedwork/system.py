"""A whole system as one explicit object: its services, its workflows, and what follows from them.

A mistake in what is declared is a DefinitionError, which names it, before anything starts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Column, Engine, Integer, MetaData

from pulsaga import broker as brokers
from pulsaga import faults
from pulsaga.broker import Broker
from pulsaga.delivery.avro import Codec, CommittedSchemas
from pulsaga.delivery.database import open_database
from pulsaga.delivery.inbox import Handler
from pulsaga.delivery.loop import Duty
from pulsaga.delivery.messages import (
    CommandFailed,
    CommandRefused,
    CommandWithdrawn,
    contract_of,
    is_compensation,
    owned,
)
from pulsaga.delivery.projection import Changed, Projection
from pulsaga.delivery.relay import Relay
from pulsaga.delivery.rows import keyed_alone
from pulsaga.delivery.tables import DELIVERY
from pulsaga.delivery.unit_of_work import Speaker
from pulsaga.errors import DefinitionError
from pulsaga.process import Process
from pulsaga.saga.coordinator import Coordinator
from pulsaga.saga.definition import Saga
from pulsaga.settings import KEYS, Settings

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from pulsaga.operate.verify import Checks
    from pulsaga.web.front_door.door import Entrance

T = TypeVar("T")
FIRST_PORT = 3000
NAME = re.compile("[a-z][a-z0-9_]{0,39}")
"""How a service is called: it is a part of variables, topics, databases and roles (63 characters on PostgreSQL)."""
ANSWERS = (CommandRefused, CommandFailed)
"""Events that every service which handles commands may answer with."""


@dataclass(frozen=True)
class Service:
    """A service: one literal that names everything it is made of."""

    name: str
    _: KW_ONLY
    handlers: Sequence[Handler[Any]] = ()
    projections: Sequence[Projection[Any]] = ()
    events: Sequence[type] = ()
    """Events that it tells beside the replies of its commands."""
    tables: MetaData = field(default_factory=MetaData)
    """Of its write database. A table with one key column has a `revision`, which is added where it is not declared;
    not to one whose `info` says `append_only`."""
    views: MetaData = field(default_factory=MetaData)
    """Tables of its read database."""
    duties: Sequence[DutyMaker] = ()
    routes: Callable[[], Sequence[Blueprint]] | None = None
    """Imports and returns the routes of its web process: a worker does not load them."""
    entrances: Callable[[], Sequence[Entrance]] | None = None
    """Of a front door: imports and returns paths of its own by which callers start workflows."""
    web: Callable[[Runtime, Engine], Flask] | None = None
    """Makes the app of its web process; by default one of its routes."""
    processes: Mapping[str, AddLoops] = field(default_factory=dict)
    """Kinds of process of its own beside `worker` and `web`, by name: each adds its loops to a process."""
    settings: type | None = None
    """A dataclass of its own settings (`pulsaga.settings.setting`), read with `settings.of(cls)`."""
    keys: Sequence[str] = ()
    """Names of the keys of 32 bytes that it uses."""
    seams: Mapping[str, str] = field(default_factory=dict)
    """Points of its own at which faults may happen, beside the framework's, each with what has happened there."""
    preflight: Callable[[Settings], object] | None = None
    """Looks at settings before anything starts; raises SettingError."""
    check: Callable[[Runtime], None] | None = None
    """Looked at before a process of it does anything; raises SettingError."""
    checks: Checks | None = None
    """What `protools verify` knows of its effects."""
    changed: Callable[[Runtime], Changed] | None = None
    """Told of each batch that its projector has committed."""
    command_line: Mapping[str, str] = field(default_factory=dict)
    """Commands that it adds to the command line: a name, and a click command as `module:NAME`."""
    first_steps: Callable[[str, str], Sequence[str]] | None = None
    """Of a front door: commands to try, given its URL and the option of curl that says who asks."""
    module: str = ""
    """Where it is declared: its schemas and migrations lie beside."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise DefinitionError(f"service {self.name!r}: a name is of small letters, digits and _, 40 at most")
        if not self.module:
            object.__setattr__(self, "module", sys._getframe(2).f_globals["__name__"])
        if self.routes and not self.web:
            object.__setattr__(self, "web", partial(_app_of, self.routes))
        for table in self.tables.tables.values():
            if keyed_alone(table) and "revision" not in table.c and not table.info.get("append_only"):
                table.append_column(Column("revision", Integer, nullable=False))
        if taken := {"worker", "web"} & self.processes.keys():
            raise DefinitionError(f"service {self.name}: {' and '.join(taken)} is a kind of process of every service")
        if ours := sorted({*self.tables.tables, *self.views.tables} & DELIVERY.tables.keys()):
            raise DefinitionError(f"service {self.name}: a table called {', '.join(ours)} is in every database already")
        _refuse_twins(f"service {self.name}: two handlers of", [handler.message for handler in self.handlers])
        _refuse_twins(f"service {self.name}: two projections of", [each.event for each in self.projections])

    @cached_property
    def handling(self) -> Mapping[type, Handler[Any]]:
        """Handlers by the class of what they handle."""
        return {handler.message: handler for handler in self.handlers}

    @cached_property
    def projecting(self) -> Mapping[type, Projection[Any]]:
        """Projections by the class of their event."""
        return {projection.event: projection for projection in self.projections}

    @cached_property
    def commands(self) -> tuple[type, ...]:
        """The commands that it takes."""
        return tuple(cls for cls in self.handling if contract_of(cls).kind == "command")

    @cached_property
    def messages(self) -> tuple[type, ...]:
        """Every message that it owns: the commands it takes and the events it tells."""
        replies = [reply for cls in self.commands for reply in contract_of(cls).replies]
        answers = [self._answer(answer) for answer in ANSWERS] if self.commands else []
        withdrawn = [self.withdrawn] if self.withdrawn else []
        return tuple(dict.fromkeys((*self.commands, *replies, *self.events, *answers, *withdrawn)))

    @property
    def refused(self) -> type[CommandRefused]:
        """The class of its answer to a command that it refuses."""
        return self._answer(CommandRefused)

    @property
    def failed(self) -> type[CommandFailed]:
        """The class of its answer to a command that became a dead letter."""
        return self._answer(CommandFailed)

    @property
    def withdrawn(self) -> type[CommandWithdrawn] | None:
        """The class of its answer to a compensation of what did nothing; None where it takes no compensation."""
        return self._answer(CommandWithdrawn) if any(map(is_compensation, self.commands)) else None

    def _answer(self, answer: type[T]) -> type[T]:
        module = contract_of(self.commands[0]).module if self.commands else self.module
        return owned(answer, self.name, module)

    @property
    def consumes(self) -> list[str]:
        """Topics its worker reads."""
        return [contract_of(cls).name for cls in self.handling]

    @property
    def projector(self) -> str:
        """Name of its projector's subscription."""
        return f"{self.name}-projector"

    @property
    def projects(self) -> list[str]:
        """Topics its projector reads."""
        return [contract_of(cls).name for cls in self.projecting]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Its kinds of process."""
        works = self.handlers or self.projections or self.duties
        return ("worker",) * bool(works) + ("web",) * (self.web is not None) + tuple(self.processes)


def _app_of(routes: Callable[[], Sequence[Blueprint]], runtime: Runtime, read: Engine) -> Flask:
    from pulsaga.web import webapp

    return webapp.create(runtime, read, *routes())


@dataclass(frozen=True)
class System:
    """A whole system. `name` is the coordinator's name, too: it owns the commands that start workflows."""

    name: str
    _: KW_ONLY
    services: Sequence[Service] = ()
    workflows: Sequence[Saga[Any]] = ()
    front_door: Service | None = None
    """By default one with nothing of its own, where a workflow says who may start it."""
    module: str = ""
    """Where it is declared."""

    def __post_init__(self) -> None:
        if not self.module:
            object.__setattr__(self, "module", sys._getframe(2).f_globals["__name__"])
        if self.front_door or any(workflow.access for workflow in self.workflows):
            object.__setattr__(self, "front_door", self._complete(self.front_door))
        _refuse_twins(f"system {self.name}: two services called", [service.name for service in self.all], str)
        _refuse_twins(f"system {self.name}: two workflows called", [flow.key for flow in self.workflows], str)
        self.sagas.check()
        for workflow in self.workflows:
            for number, step in enumerate(workflow.steps, start=1):
                for command in filter(None, (step.sends, step.undoes_by)):
                    self._check_receiver(f"workflow {workflow.key}, step {number}", command)
        for service in self.all:
            self._check_owner(service)

    def _complete(self, door: Service | None) -> Service:
        from pulsaga.web.front_door.service import as_front_door

        module = self.sagas.module
        return as_front_door(door or Service("front_door", module=module), coordinator=self.name, module=module)

    def _check_owner(self, service: Service) -> None:
        """Raise DefinitionError for a command that is another's to handle, or an event that is another's to tell."""
        for contract in map(contract_of, service.messages):
            if contract.owner != service.name:
                does = "handles" if contract.kind == "command" else "tells"
                raise DefinitionError(f"service {service.name} {does} {contract.name}, which is {contract.owner}'s")

    def _check_receiver(self, place: str, command: type) -> None:
        contract = contract_of(command)
        receiver = next((service for service in self.all if service.name == contract.owner), None)
        if receiver is None or command not in receiver.handling:
            raise DefinitionError(f"{place} sends {contract.name}, which no service of {self.name} handles")
        for reply in contract.replies:
            if contract_of(reply).owner != contract.owner:
                raise DefinitionError(
                    f"{contract.name} is answered by {contract_of(reply).name}, which is another's to tell"
                )

    @cached_property
    def sagas(self) -> Coordinator:
        """What drives its sagas."""
        return Coordinator(self.name, self.workflows, self.module)

    @cached_property
    def coordinator(self) -> Service:
        """The service that drives its sagas."""
        from pulsaga.saga import timers, views
        from pulsaga.saga.tables import READ, WRITE

        sagas, door = self.sagas, [self.front_door] if self.front_door else []
        return Service(
            self.name,
            handlers=sagas.handlers({service.name: service for service in (*self.services, *door)}),
            projections=[Projection(sagas.moved, views.project_saga)],
            events=[sagas.moved],
            tables=WRITE,
            views=READ,
            duties=(timers.wake_due_sagas, timers.resend_to_silent),
            routes=self._show_sagas,
            module=sagas.module,
        )

    @staticmethod
    def _show_sagas() -> Sequence[Blueprint]:
        from pulsaga.web import sagas

        return [sagas.api]

    @cached_property
    def all(self) -> tuple[Service, ...]:
        """Every service, coordinator and front door included, in the order in which they start."""
        return (*self.services, self.coordinator, *([self.front_door] if self.front_door else []))

    @cached_property
    def _by_name(self) -> Mapping[str, Service]:
        return {service.name: service for service in self.all}

    def __getitem__(self, name: str) -> Service:
        """Return a service by its name; raise KeyError."""
        return self._by_name[name]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all services."""
        return tuple(self._by_name)

    @cached_property
    def messages(self) -> tuple[type, ...]:
        """Every message that a service owns."""
        return tuple(cls for service in self.all for cls in service.messages)

    @cached_property
    def processes(self) -> tuple[tuple[str, str], ...]:
        """Every kind of process, as service and kind, in the order in which they start."""
        own = (kind for service in self.all for kind in service.processes)
        kinds = dict.fromkeys(("worker", *own, "web"))
        return tuple((service.name, kind) for kind in kinds for service in self.all if kind in service.kinds)

    @cached_property
    def seams(self) -> Mapping[str, str]:
        """Every point at which faults may happen, as `<service>.<point>`, with what has happened there."""
        return {
            f"{service.name}.{point}": words
            for service in self.all
            for points in (faults.seams_of(bool(service.handlers), bool(service.projections)), service.seams)
            for point, words in points.items()
        }

    def shown(self, settings: Settings) -> dict[str, str]:
        """Return every setting in force by its variable, secrets hidden."""
        own = [service.settings for service in self.all if service.settings]
        keys = dict.fromkeys((*(key for service in self.all for key in service.keys), *KEYS))
        ports = {f"{name.upper()}_PORT": str(port) for name, port in self.ports(settings).items()}
        urls = {f"{name.upper()}_URL": self.url_of(settings, name) for name in self._ports}
        return ports | urls | {"PUBLIC_URL": self.public_url(settings)} | settings.shown(own, keys)

    # --- places

    @cached_property
    def _ports(self) -> Mapping[str, int]:
        first = [self.front_door] if self.front_door else []
        served = [service for service in (*first, self.coordinator, *self.services) if service.web]
        return {service.name: FIRST_PORT + number for number, service in enumerate(served)}

    def ports(self, settings: Settings) -> dict[str, int]:
        """Return the port of every web process by its service, the front door's first."""
        return {name: self.port_of(settings, name) for name in self._ports}

    def port_of(self, settings: Settings, service: str) -> int:
        """Return the port of a service's web process: `<SERVICE>_PORT`, else one of its own from 3000 on."""
        if service not in self._ports:
            raise DefinitionError(f"{service} has no web process")
        return settings.port(service, self._ports[service])

    def url_of(self, settings: Settings, service: str) -> str:
        """Return where a service's web process is reached by others: `<SERVICE>_URL`, else its port on this machine."""
        return settings.url(f"{service.upper()}_URL", f"http://127.0.0.1:{self.port_of(settings, service)}")

    def public_url(self, settings: Settings) -> str:
        """Return where people reach the front door: `PUBLIC_URL`, else its port on this machine."""
        door = self.front_door or self.coordinator
        return settings.url("PUBLIC_URL", f"http://127.0.0.1:{self.port_of(settings, door.name)}")


@dataclass(frozen=True)
class Runtime:
    """What one process of a service works with: one broker connection, its databases, its relay."""

    system: System
    settings: Settings
    service: str
    broker: Broker
    codec: Codec
    write: Engine
    relay: Relay

    @property
    def public_url(self) -> str:
        """Where people reach the front door."""
        return self.system.public_url(self.settings)

    def url_of(self, service: str) -> str:
        """Return where another service's web process is reached."""
        return self.system.url_of(self.settings, service)


DutyMaker = Callable[[Runtime], Duty]
AddLoops = Callable[[Process, Runtime], Sequence[Callable[[], object]]]
"""Adds the loops of one kind of process; returns what is closed after them."""


def open_runtime(system: System, settings: Settings, service: str) -> Runtime:
    """Connect to broker and write database, as the owner of the service's data."""
    broker = brokers.connect(settings.broker_url, CommittedSchemas(), settings.namespace, settings.broker_access)
    write = open_database(settings, service, "write", "owner")
    return runtime_of(system, settings, service, broker, write)


def runtime_of(system: System, settings: Settings, service: str, broker: Broker, write: Engine) -> Runtime:
    """Return the runtime of a process that has a broker and a write database."""
    codec = Codec()
    speaker = Speaker(service, codec, settings.clock_offset, partial(_key, settings, {}), settings.sweep_after)
    return Runtime(system, settings, service, broker, codec, write, Relay(write, broker, speaker))


def _key(settings: Settings, known: dict[str, bytes], name: str) -> bytes:
    if name not in known:
        known[name] = settings.key(name)
    return known[name]


def _refuse_twins(where: str, given: Sequence[Any], named: Callable[[Any], str] | None = None) -> None:
    for twin in _twins(given):
        raise DefinitionError(f"{where} {named(twin) if named else contract_of(twin).name}")


def _twins(given: Sequence[Any]) -> Iterator[Any]:
    return (one for number, one in enumerate(given) if one in given[:number])
