"""HTTP in JSON and XML: the names that routes are written with.

Nothing is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pulsaga.web import http as http
    from pulsaga.web.access.guesses import Guesses as Guesses
    from pulsaga.web.access.guesses import TooManyAttempts as TooManyAttempts
    from pulsaga.web.access.guesses import guess_budgets as guess_budgets
    from pulsaga.web.access.issuers import Issuer as Issuer
    from pulsaga.web.access.issuers import Standing as Standing
    from pulsaga.web.access.limits import Rate as Rate
    from pulsaga.web.access.rights import ASKING as ASKING
    from pulsaga.web.access.rights import OVERSEEING as OVERSEEING
    from pulsaga.web.access.rights import PUBLIC as PUBLIC
    from pulsaga.web.access.rights import SEEING as SEEING
    from pulsaga.web.access.rights import SERVICE as SERVICE
    from pulsaga.web.access.rights import allow as allow
    from pulsaga.web.access.tokens import Refused as Refused
    from pulsaga.web.access.tokens import check_service_token as check_service_token
    from pulsaga.web.access.tokens import service_token as service_token
    from pulsaga.web.access.tokens import signed_claims as signed_claims
    from pulsaga.web.asking import Answered as Answered
    from pulsaga.web.asking import Peer as Peer
    from pulsaga.web.contract import LIMIT as LIMIT
    from pulsaga.web.contract import NEXT as NEXT
    from pulsaga.web.contract import Answer as Answer
    from pulsaga.web.contract import Parameter as Parameter
    from pulsaga.web.contract import Shape as Shape
    from pulsaga.web.contract import operation as operation
    from pulsaga.web.development import app_of as app_of
    from pulsaga.web.formats import NOT_XML as NOT_XML
    from pulsaga.web.formats import Format as Format
    from pulsaga.web.formats import Problem as Problem
    from pulsaga.web.formats import invalid as invalid
    from pulsaga.web.front_door.commands.queries import reasons_of as reasons_of
    from pulsaga.web.front_door.commands.resources import link as link
    from pulsaga.web.front_door.commands.resources import page_of as page_of
    from pulsaga.web.front_door.commands.resources import text as text
    from pulsaga.web.front_door.commands.resources import time as time
    from pulsaga.web.front_door.door import Entrance as Entrance
    from pulsaga.web.front_door.door import Link as Link
    from pulsaga.web.front_door.door import Shown as Shown
    from pulsaga.web.front_door.shapes import callback_field as callback_field
    from pulsaga.web.front_door.shapes import shape_of as shape_of
    from pulsaga.web.front_door.tables import visible as visible

PLACES = {
    "ASKING": "pulsaga.web.access.rights",
    "Answer": "pulsaga.web.contract",
    "Answered": "pulsaga.web.asking",
    "Entrance": "pulsaga.web.front_door.door",
    "Guesses": "pulsaga.web.access.guesses",
    "Issuer": "pulsaga.web.access.issuers",
    "Format": "pulsaga.web.formats",
    "LIMIT": "pulsaga.web.contract",
    "Link": "pulsaga.web.front_door.door",
    "NEXT": "pulsaga.web.contract",
    "NOT_XML": "pulsaga.web.formats",
    "OVERSEEING": "pulsaga.web.access.rights",
    "PUBLIC": "pulsaga.web.access.rights",
    "Parameter": "pulsaga.web.contract",
    "Peer": "pulsaga.web.asking",
    "Problem": "pulsaga.web.formats",
    "Rate": "pulsaga.web.access.limits",
    "Refused": "pulsaga.web.access.tokens",
    "SEEING": "pulsaga.web.access.rights",
    "SERVICE": "pulsaga.web.access.rights",
    "Shape": "pulsaga.web.contract",
    "Shown": "pulsaga.web.front_door.door",
    "Standing": "pulsaga.web.access.issuers",
    "TooManyAttempts": "pulsaga.web.access.guesses",
    "allow": "pulsaga.web.access.rights",
    "app_of": "pulsaga.web.development",
    "callback_field": "pulsaga.web.front_door.shapes",
    "guess_budgets": "pulsaga.web.access.guesses",
    "check_service_token": "pulsaga.web.access.tokens",
    "http": "pulsaga.web.http",
    "invalid": "pulsaga.web.formats",
    "link": "pulsaga.web.front_door.commands.resources",
    "operation": "pulsaga.web.contract",
    "page_of": "pulsaga.web.front_door.commands.resources",
    "reasons_of": "pulsaga.web.front_door.commands.queries",
    "service_token": "pulsaga.web.access.tokens",
    "shape_of": "pulsaga.web.front_door.shapes",
    "signed_claims": "pulsaga.web.access.tokens",
    "text": "pulsaga.web.front_door.commands.resources",
    "time": "pulsaga.web.front_door.commands.resources",
    "visible": "pulsaga.web.front_door.tables",
}
"""Where each public name is defined; a module stands for itself."""


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"pulsaga.web offers no {name}")
    module = import_module(PLACES[name])
    return getattr(module, name, module)


def __dir__() -> list[str]:
    return sorted(PLACES)
