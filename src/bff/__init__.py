"""Be the front door: accept commands over HTTP, show where they stand, reveal a password once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy import Engine

    from pulsaga.system import Runtime


def create_app(runtime: Runtime, read: Engine) -> Flask:
    """Return the WSGI app. `app.extensions` holds what the process runs beside it: `waiting`, and in `duties` its looks
    at the load; and the `gate` that the server asks."""
    from functools import partial

    from bff import documents, events, keys, pages, routes
    from bff.acceptance import GroupCommit
    from bff.admission import Admission
    from bff.forgetting import forgetting
    from bff.vault import Vault
    from bff.waiting import Waiting
    from pulsaga.delivery.loop import Duty
    from pulsaga.web import webapp

    blueprints = routes.api, events.events, pages.pages, documents.documents
    find_key = partial(keys.find, runtime.write)
    app = webapp.create(runtime, read, *blueprints, static=True, find_key=find_key)
    app.extensions["gate"] = admission = Admission(runtime, read, app.extensions["registry"])
    app.extensions["duties"] += [Duty("admission", admission.look), forgetting(runtime, read)]
    app.extensions["waiting"] = waiting = Waiting(runtime.broker, admission.ended)
    app.extensions["acceptance"] = GroupCommit(runtime.relay, runtime.write)
    app.extensions["vault"] = Vault(runtime)
    webapp.on_stopping(app, waiting.release)
    return app
