"""Declare the front door: it accepts commands over HTTP, shows where they stand, reveals a password once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bff.checks import CHECKS
from bff.projections import PROJECTIONS
from bff.settings import BffSettings
from bff.tables import VIEWS
from pulsaga import Service

if TYPE_CHECKING:
    from flask import Blueprint

    from pulsaga.web import Entrance

XML = "-H 'Content-Type: application/xml' -H 'Accept: application/xml'"


def first_steps(address: str, known: str) -> list[str]:
    """Return three commands to try."""
    return [
        f"""curl -i {address}/passwords{known} -H 'Content-Type: application/json' -d '{{"username":"ada"}}'""",
        f"curl -i {address}/passwords{known} {XML} -d '<root><username>grace</username></root>'",
        f"curl -i {address}/passwords/ada{known}",
    ]


def routes() -> list[Blueprint]:
    """Return the routes of passwords and of the page that reveals one."""
    from bff import pages
    from bff.routes import api

    return [api, pages.pages]


def entrances() -> Sequence[Entrance]:
    """Return the path by which passwords are asked for."""
    from bff.door import ENTRANCES

    return ENTRANCES


BFF = Service(
    "bff",
    views=VIEWS,
    projections=PROJECTIONS,
    routes=routes,
    entrances=entrances,
    settings=BffSettings,
    first_steps=first_steps,
    checks=CHECKS,
)
