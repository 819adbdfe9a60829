"""Declare the front door: it accepts commands over HTTP, shows where they stand, reveals a password once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bff.checks import CHECKS
from bff.orders import projections as orders
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
    """Return the routes of passwords, of the page that reveals one, and of orders."""
    from bff import pages
    from bff.orders.routes import api as orders
    from bff.routes import api

    return [api, pages.pages, orders]


def entrances() -> Sequence[Entrance]:
    """Return the paths by which passwords and orders are asked for."""
    from bff.door import ENTRANCES
    from bff.orders.door import ENTRANCES as ORDERS

    return (*ENTRANCES, *ORDERS)


BFF = Service(
    "bff",
    views=VIEWS,
    projections=[*PROJECTIONS, *orders.PROJECTIONS],
    routes=routes,
    entrances=entrances,
    settings=BffSettings,
    first_steps=first_steps,
    checks=CHECKS,
)
