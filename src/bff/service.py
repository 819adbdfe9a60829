"""Declare the front door: it accepts commands over HTTP, shows where they stand, reveals a password once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bff.checks import CHECKS
from bff.orders import projections as orders
from bff.pedidos import tables as pedidos
from bff.projections import PROJECTIONS
from bff.settings import BffSettings
from bff.tables import VIEWS
from bff.users import projections as users
from pulsaga import Service

if TYPE_CHECKING:
    from flask import Blueprint

    from pulsaga.web import Entrance, Issuer

XML = "-H 'Content-Type: application/xml' -H 'Accept: application/xml'"


def first_steps(address: str, known: str) -> list[str]:
    """Return three commands to try."""
    return [
        f"""curl -i {address}/passwords{known} -H 'Content-Type: application/json' -d '{{"username":"ada"}}'""",
        f"curl -i {address}/passwords{known} {XML} -d '<root><username>grace</username></root>'",
        f"curl -i {address}/passwords/ada{known}",
    ]


def routes() -> list[Blueprint]:
    """Return the routes of passwords, of pages for people, of orders and of users."""
    from bff import pages
    from bff.orders.routes import api as orders
    from bff.pedidos.door import api as pedidos
    from bff.routes import api
    from bff.users.routes import api as users

    return [api, pages.pages, orders, users, pedidos]


def entrances() -> Sequence[Entrance]:
    """Return the paths by which passwords and orders are asked for, and other addresses."""
    from bff.door import ENTRANCES
    from bff.orders.door import ENTRANCES as ORDERS
    from bff.pedidos.door import ENTRANCES as PEDIDOS
    from bff.users.door import ENTRANCES as USERS

    return (*ENTRANCES, *ORDERS, *USERS, *PEDIDOS)


def issuers() -> Sequence[Issuer]:
    """Return whose tokens are taken: those of users."""
    from bff.users.door import USERS

    return [USERS]


BFF = Service(
    "bff",
    views=VIEWS,
    projections=[*PROJECTIONS, *orders.PROJECTIONS, *users.PROJECTIONS, *pedidos.PROJECTIONS],
    routes=routes,
    entrances=entrances,
    issuers=issuers,
    settings=BffSettings,
    first_steps=first_steps,
    checks=CHECKS,
)
