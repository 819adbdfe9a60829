"""Declare the front door: it accepts commands over HTTP, shows where they stand, reveals a password once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bff.checks import CHECKS
from bff.door import ENTRANCES
from bff.projections import PROJECTIONS
from bff.settings import BffSettings
from bff.tables import READ, WRITE
from pulsaga.system import Runtime, Service
from pulsaga.web.front_door.callbacks.webhooks import calling
from pulsaga.web.front_door.commands.projections import tell_waiters
from pulsaga.web.front_door.service import SEAMS

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy import Engine

XML = "-H 'Content-Type: application/xml' -H 'Accept: application/xml'"


def first_steps(address: str, known: str) -> list[str]:
    """Return three commands to try."""
    return [
        f"""curl -i {address}/passwords{known} -H 'Content-Type: application/json' -d '{{"username":"ada"}}'""",
        f"curl -i {address}/passwords{known} {XML} -d '<root><username>grace</username></root>'",
        f"curl -i {address}/passwords/ada{known}",
    ]


def web(runtime: Runtime, read: Engine) -> Flask:
    """Return the WSGI app: what every front door has, and passwords."""
    from bff import documents, pages, routes
    from bff.door import ENTRANCES
    from bff.vault import Vault
    from pulsaga.web.front_door.app import create
    from pulsaga.web.front_door.door import FrontDoor

    door = FrontDoor(runtime.system, ENTRANCES)
    app = create(door, runtime, read, pages.pages, documents.documents, more=routes.add_to)
    app.extensions["vault"] = Vault(runtime)
    return app


BFF = Service(
    "bff",
    tables=WRITE,
    views=READ,
    projections=PROJECTIONS,
    duties=[calling(ENTRANCES)],
    web=web,
    settings=BffSettings,
    seams=SEAMS,
    changed=tell_waiters,
    first_steps=first_steps,
    checks=CHECKS,
)
