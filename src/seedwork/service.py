"""One service as one explicit object: what it handles, keeps, shows and needs, and what follows from that.

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

from pulsaga.delivery.dispatch.handlers import Handler
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
from pulsaga.delivery.tables import DELIVERY
from pulsaga.delivery.transaction.rows import keyed_alone
from pulsaga.delivery.waiting import Waiting
from pulsaga.errors import DefinitionError
from pulsaga.running.process import Process
from pulsaga.settings import Settings

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from pulsaga.operate.erasing import Erasure
    from pulsaga.operate.verify import Checks
    from pulsaga.running.runtime import Runtime
    from pulsaga.web.access.issuers import Issuer
    from pulsaga.web.front_door.door import Entrance

T = TypeVar("T")
NAME = re.compile("[a-z][a-z0-9_]{0,39}")
"""How a service is called: it is a part of variables, topics, databases and roles (63 characters on PostgreSQL)."""
ANSWERS = (CommandRefused, CommandFailed)
"""Events that every service which handles commands may answer with."""
DutyMaker = Callable[["Runtime"], Duty]
AddLoops = Callable[[Process, "Runtime"], Sequence[Callable[[], object]]]
"""Adds the loops of one kind of process; returns what is closed after them."""


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
    waiting: Sequence[Waiting] = ()
    """Its own work that waits in tables: operators see how much, for how long and with which error."""
    routes: Callable[[], Sequence[Blueprint]] | None = None
    """Imports and returns the routes of its web process: a worker does not load them."""
    issuers: Callable[[], Sequence[Issuer]] | None = None
    """Imports and returns whose tokens its web process takes beside those of the issuer that the settings name."""
    entrances: Callable[[], Sequence[Entrance]] | None = None
    """Of a front door: imports and returns paths of its own by which callers start workflows."""
    web: Callable[[Runtime, Engine], Flask] | None = None
    """Makes the app of its web process; by default one of its routes."""
    processes: Mapping[str, AddLoops] = field(default_factory=dict)
    """Kinds of process of its own beside `worker` and `web`, by name: each adds its loops to a process."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Ports on which its own kinds of process listen, by kind, unless `<KIND>_PORT` names another."""
    settings: type | Sequence[type] | None = None
    """A dataclass of its own settings (`pulsaga.settings.setting`), or several; read with `settings.of(cls)`."""
    keys: Sequence[str] = ()
    """Names of the keys of 32 bytes that it uses."""
    secrets: Sequence[str] = ()
    """Names of the secrets that it uses: text of 32 bytes or more, which others may hold too."""
    seams: Mapping[str, str] = field(default_factory=dict)
    """Points of its own at which faults may happen, beside the framework's, each with what has happened there."""
    preflight: Callable[[Settings], object] | None = None
    """Looks at settings before anything starts; raises SettingError."""
    check: Callable[[Runtime], None] | None = None
    """Looked at before a process of it does anything; raises SettingError."""
    checks: Checks | None = None
    """What `protools verify` knows of its effects."""
    erasure: Erasure | None = None
    """What it knows of persons who are to be erased (`protools erase`)."""
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
        if unknown := sorted(self.ports.keys() - self.processes.keys()):
            raise DefinitionError(
                f"service {self.name}: a port for {unknown[0]}, which is no kind of process of its own"
            )
        if ours := sorted({*self.tables.tables, *self.views.tables} & DELIVERY.tables.keys()):
            raise DefinitionError(f"service {self.name}: a table called {', '.join(ours)} is in every database already")
        refuse_twins(f"service {self.name}: two handlers of", [handler.message for handler in self.handlers])
        refuse_twins(f"service {self.name}: two projections of", [each.event for each in self.projections])

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
    def subscriptions(self) -> list[tuple[str, str]]:
        """Its durable subscriptions, each as topic and name."""
        handled = [(topic, self.name) for topic in self.consumes]
        return handled + [(topic, self.projector) for topic in self.projects]

    @property
    def own_settings(self) -> tuple[type, ...]:
        """The classes of its own settings."""
        return (self.settings,) if isinstance(self.settings, type) else tuple(self.settings or ())

    @property
    def kinds(self) -> tuple[str, ...]:
        """Its kinds of process."""
        works = self.handlers or self.projections or self.duties
        return ("worker",) * bool(works) + ("web",) * (self.web is not None) + tuple(self.processes)


def _app_of(routes: Callable[[], Sequence[Blueprint]], runtime: Runtime, read: Engine) -> Flask:
    from pulsaga.web import webapp

    return webapp.create(runtime, read, *routes())


def refuse_twins(where: str, given: Sequence[Any], named: Callable[[Any], str] | None = None) -> None:
    """Raise DefinitionError for what is given twice; it is called by its contract, or by `named`."""
    for twin in _twins(given):
        raise DefinitionError(f"{where} {named(twin) if named else contract_of(twin).name}")


def _twins(given: Sequence[Any]) -> Iterator[Any]:
    return (one for number, one in enumerate(given) if one in given[:number])
