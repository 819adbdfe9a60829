"""A front door as a service: what every system has that callers reach, with nothing of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pulsaga.system import Runtime, Service
from pulsaga.web.front_door import tables
from pulsaga.web.front_door.callbacks.webhooks import calling
from pulsaga.web.front_door.commands.projections import projections, tell_waiters
from pulsaga.web.front_door.door import Entrance

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy import Engine

SEAMS = {"telling": "the read model is up to date, who waits has not heard it (drop: nobody hears it)"}


def front_door(name: str, *, coordinator: str, module: str, entrances: Sequence[Entrance] = ()) -> Service:
    """Return the front door of a system: its workflows that are open, at `/workflows` or at these entrances.

    `module` declares a command of the coordinator: the schemas of its events lie beside.
    """

    def web(runtime: Runtime, read: Engine) -> Flask:
        from pulsaga.web.front_door.app import create
        from pulsaga.web.front_door.door import FrontDoor

        return create(FrontDoor(runtime.system, entrances), runtime, read)

    return Service(
        name,
        tables=tables.WRITE,
        views=tables.READ,
        projections=projections(coordinator, module),
        duties=[calling(entrances)],
        web=web,
        seams=SEAMS,
        changed=tell_waiters,
        module=module,
    )
