"""Build the app of a front door: entrances, commands and their events, what an application adds, and documents."""

from __future__ import annotations

from functools import partial

from flask import Blueprint, Flask
from sqlalchemy import Engine

from pulsaga.delivery.loop import Duty
from pulsaga.running.runtime import Runtime
from pulsaga.web import http, webapp
from pulsaga.web.access import keys
from pulsaga.web.documents.routes import documents
from pulsaga.web.front_door import starting
from pulsaga.web.front_door.acceptance import GroupCommit
from pulsaga.web.front_door.commands import events, routes, signalling
from pulsaga.web.front_door.commands.resources import command_shape
from pulsaga.web.front_door.commands.waiting import Waiting, topic_of
from pulsaga.web.front_door.door import FrontDoor
from pulsaga.web.front_door.forgetting import forgetting
from pulsaga.web.front_door.overload.admission import Admission


def routes_of(door: FrontDoor, service: str) -> tuple[Blueprint, list[str]]:
    """Return the routes of a front door, and the endpoints by which workflows start.

    Raise DefinitionError for a workflow that is declared open and cannot be.
    """
    api, shape = http.api(service, "pulsaga.web.front_door"), command_shape(door.views.values())
    commands = [starting.add_to(api, door, entrance, shape) for entrance in starting.entrances_of(door)]
    routes.add_to(api, door, shape)
    for signal in signalling.signals_of(door):
        signalling.add_to(api, door, signal)
    return api, commands


def create(door: FrontDoor, runtime: Runtime, read: Engine, *blueprints: Blueprint) -> Flask:
    """Return the WSGI app of a front door; the blueprints hold an application's own routes.

    `app.extensions` holds what the process runs beside it: `waiting`, and in `duties` its looks at the load; and the
    `gate` that the server asks. Raise DefinitionError for a workflow that is declared open and cannot be.
    """
    api, commands = routes_of(door, runtime.service)
    find_key = partial(keys.find, runtime.write)
    app = webapp.create(runtime, read, api, events.events, *blueprints, documents, static=True, find_key=find_key)
    app.extensions["front_door"] = door
    app.extensions["gate"] = admission = Admission(runtime, read, app.extensions["registry"], commands)
    app.extensions["duties"] += [Duty("admission", admission.look), forgetting(runtime, read)]
    app.extensions["waiting"] = waiting = Waiting(runtime.broker, topic_of(runtime.service), admission.ended)
    app.extensions["acceptance"] = GroupCommit(runtime.transactions, runtime.write)
    webapp.on_stopping(app, waiting.release)
    return app
