"""What makes a service the front door of a system: acceptance of its workflows, and their commands shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Engine, MetaData

from pulsaga.delivery.loop import Duty
from pulsaga.delivery.waiting import Waiting
from pulsaga.errors import DefinitionError
from pulsaga.running.runtime import Runtime
from pulsaga.service import Service
from pulsaga.web.front_door import tables
from pulsaga.web.front_door.commands.projections import projections, tell_waiters

if TYPE_CHECKING:
    from flask import Flask

    from pulsaga.web.front_door.door import Entrance

CALLBACKS = Waiting("callbacks", tables.webhook, tables.webhook.c.created_at, tables.webhook.c.error)
SEAMS = {"telling": "the read model is up to date, who waits has not heard it (drop: nobody hears it)"}


def as_front_door(service: Service, *, coordinator: str, module: str) -> Service:
    """Return a service with what every front door has beside its own.

    `module` declares a command of the coordinator: the schemas of its events lie beside.
    """
    return replace(
        service,
        tables=_both(tables.WRITE, service.tables),
        views=_both(tables.READ, service.views),
        projections=[*projections(coordinator, module), *service.projections],
        duties=[partial(_calling, service), *service.duties],
        waiting=[CALLBACKS, *service.waiting],
        web=partial(_app, service),
        seams={**SEAMS, **service.seams},
        changed=tell_waiters,
    )


def _calling(service: Service, runtime: Runtime) -> Duty:
    from pulsaga.web.front_door.callbacks.webhooks import calling

    return calling(_entrances(service))(runtime)


def _entrances(service: Service) -> Sequence[Entrance]:
    return service.entrances() if service.entrances else ()


def _both(ours: MetaData, own: MetaData) -> MetaData:
    if taken := sorted(ours.tables.keys() & own.tables.keys()):
        raise DefinitionError(f"a table called {', '.join(taken)} is in the databases of every front door already")
    both = MetaData()
    for table in (*ours.tables.values(), *own.tables.values()):
        table.to_metadata(both)
    return both


def _app(service: Service, runtime: Runtime, read: Engine) -> Flask:
    from pulsaga.web.front_door.app import create
    from pulsaga.web.front_door.door import FrontDoor

    routes = service.routes() if service.routes else ()
    return create(FrontDoor(runtime.system, _entrances(service)), runtime, read, *routes)
