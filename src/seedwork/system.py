"""A whole system as one explicit object: its services, its workflows, and what follows from them.

A mistake in what is declared is a DefinitionError, which names it, before anything starts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pulsaga import faults
from pulsaga.delivery.messages import contract_of
from pulsaga.delivery.projection import Projection
from pulsaga.errors import DefinitionError
from pulsaga.saga.coordinator import Coordinator
from pulsaga.saga.definition import Saga
from pulsaga.saga.steps import place
from pulsaga.saga.tokens import TOKEN_KEY
from pulsaga.service import DutyMaker, Service, refuse_twins
from pulsaga.settings import KEYS, Settings

if TYPE_CHECKING:
    from flask import Blueprint

    from pulsaga.saga.calendar import Schedule
    from pulsaga.web.formats import Format

FIRST_PORT = 3000


@dataclass(frozen=True)
class System:
    """A whole system. `name` is the coordinator's name, too: it owns the commands that start workflows."""

    name: str
    _: KW_ONLY
    services: Sequence[Service] = ()
    workflows: Sequence[Saga[Any]] = ()
    schedules: Sequence[Schedule] = ()
    formats: Sequence[Format] = ()
    """What its web processes read and write beside JSON and XML."""
    front_door: Service | None = None
    """By default one with nothing of its own, where a workflow says who may start it."""
    title: str = ""
    """How documents call it; by default its name."""
    version: str = "1.0.0"
    """Of what callers and other services rely on: a change that breaks them moves its first number."""
    module: str = ""
    """Where it is declared: the first paragraph of this module's docstring is in the documents, too."""

    def __post_init__(self) -> None:
        if not self.module:
            object.__setattr__(self, "module", sys._getframe(2).f_globals["__name__"])
        if not self.title:
            object.__setattr__(self, "title", self.name)
        refuse_twins(f"system {self.name}: two services called", [service.name for service in self.all], str)
        ports = [*(service.name for service in self.all), *(kind for service in self.all for kind in service.ports)]
        refuse_twins(f"system {self.name}: two ports called", ports, str)
        refuse_twins(f"system {self.name}: two workflows called", [flow.key for flow in self.workflows], str)
        refuse_twins(f"system {self.name}: two schedules called", [one.name for one in self.schedules], str)
        self.sagas.check()
        for workflow in self.workflows:
            for path, step in workflow.leaves:
                for command in filter(None, (step.sends, step.undoes_by)):
                    self._check_receiver(f"workflow {workflow.key}, {place(path)}", command)
        for service in self.all:
            self._check_owner(service)

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
        return Coordinator(self.name, self.workflows, self.module, self.schedules)

    @cached_property
    def coordinator(self) -> Service:
        """The service that drives its sagas."""
        from pulsaga.saga import views
        from pulsaga.saga.tables import READ, WRITE

        sagas, door = self.sagas, [self.door] if self.door else []
        return Service(
            self.name,
            handlers=sagas.handlers({service.name: service for service in (*self.services, *door)}),
            projections=[Projection(sagas.moved, views.project_saga)],
            events=[sagas.moved, *([sagas.child_ended] if sagas.has_children else [])],
            tables=WRITE,
            views=READ,
            duties=self._duties(),
            routes=self._show_sagas,
            keys=[TOKEN_KEY] if sagas.borne else [],
            module=sagas.module,
        )

    def _duties(self) -> Sequence[DutyMaker]:
        from pulsaga.saga import silence, timers

        duties: list[DutyMaker] = [timers.wake_due_sagas, timers.resend_to_silent, silence.watch_silence]
        if self.sagas.limits:
            from pulsaga.saga.slots import give_turns

            duties.append(give_turns)
        if self.schedules:
            from pulsaga.saga.schedules import start_by_schedule

            duties.append(start_by_schedule)
        return duties

    @staticmethod
    def _show_sagas() -> Sequence[Blueprint]:
        from pulsaga.web import sagas

        return [sagas.api]

    @cached_property
    def door(self) -> Service | None:
        """The front door with what every front door has."""
        from pulsaga.web.front_door.service import as_front_door

        if not self.front_door and not any(workflow.access for workflow in self.workflows):
            return None
        module = self.sagas.module
        own = self.front_door or Service("front_door", module=module)
        return as_front_door(own, coordinator=self.name, module=module)

    @cached_property
    def all(self) -> tuple[Service, ...]:
        """Every service, coordinator and front door included, in the order in which they start."""
        return (*self.services, self.coordinator, *([self.door] if self.door else []))

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

    def told_once(self, service: str) -> frozenset[str] | None:
        """Return the topics of what a coordinator tells once; None for a service that sends nothing again."""
        if service != self.name:
            return None
        own = map(contract_of, self.coordinator.messages)
        return frozenset(contract.name for contract in own if contract.kind == "event")

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
        own = [cls for service in self.all for cls in service.own_settings]
        keys = dict.fromkeys((*(key for service in self.all for key in service.keys), *KEYS))
        secrets = dict.fromkeys(secret for service in self.all for secret in service.secrets)
        ports = {f"{name.upper()}_PORT": str(port) for name, port in self.ports(settings).items()}
        urls = {f"{name.upper()}_URL": self.url_of(settings, name) for name in self._ports if name in self._by_name}
        return ports | urls | {"PUBLIC_URL": self.public_url(settings)} | settings.shown(own, keys, secrets)

    # --- places

    @cached_property
    def _ports(self) -> Mapping[str, int]:
        first = [self.door] if self.door else []
        served = [service for service in (*first, self.coordinator, *self.services) if service.web]
        own = {kind: port for service in self.all for kind, port in service.ports.items()}
        return {service.name: FIRST_PORT + number for number, service in enumerate(served)} | own

    def ports(self, settings: Settings) -> dict[str, int]:
        """Return the port of every web process by its service, the front door's first; those of other kinds by kind."""
        return {name: self.port_of(settings, name) for name in self._ports}

    def port_of(self, settings: Settings, name: str) -> int:
        """Return the port of a service's web process: `<SERVICE>_PORT`, else one of its own from 3000 on.

        Or that of a kind of process of a service's own: `<KIND>_PORT`, else the one that is declared.
        """
        if name not in self._ports:
            raise DefinitionError(f"{name} has no web process")
        return settings.port(name, self._ports[name])

    def url_of(self, settings: Settings, service: str) -> str:
        """Return where a service's web process is reached by others: `<SERVICE>_URL`, else its port on this machine."""
        return settings.url(f"{service.upper()}_URL", f"http://127.0.0.1:{self.port_of(settings, service)}")

    def public_url(self, settings: Settings) -> str:
        """Return where people reach the front door: `PUBLIC_URL`, else its port on this machine."""
        door = self.door or self.coordinator
        return settings.url("PUBLIC_URL", f"http://127.0.0.1:{self.port_of(settings, door.name)}")
