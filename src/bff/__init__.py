"""Be the front door: accept commands over HTTP, show where they stand, reveal a password once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy import Engine

    from pulsaga.system import Runtime


def create_app(runtime: Runtime, read: Engine) -> Flask:
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
