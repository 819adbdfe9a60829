"""What makes a service the front door of a system: acceptance of its workflows, and their commands shown."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Engine, MetaData

from pulsaga.system import Runtime, Service
from pulsaga.web.front_door import tables
from pulsaga.web.front_door.callbacks.webhooks import calling
from pulsaga.web.front_door.commands.projections import projections, tell_waiters

if TYPE_CHECKING:
    from flask import Flask

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
        duties=[calling(service.entrances), *service.duties],
        web=partial(_app, service),
        seams={**SEAMS, **service.seams},
        changed=tell_waiters,
    )


def _both(ours: MetaData, own: MetaData) -> MetaData:
    both = MetaData()
    for table in (*ours.tables.values(), *own.tables.values()):
        table.to_metadata(both)
    return both


def _app(service: Service, runtime: Runtime, read: Engine) -> Flask:
    from pulsaga.web.front_door.app import create
    from pulsaga.web.front_door.door import FrontDoor

    routes = service.routes() if service.routes else ()
    return create(FrontDoor(runtime.system, service.entrances), runtime, read, *routes)
