"""Drive every accepted command step by step to its end, and show where it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy import Engine

    from pulsaga.system import Runtime


def create_app(runtime: Runtime, read: Engine) -> Flask:
    """Return the WSGI app that shows sagas."""
    from protools_saga import routes
    from pulsaga.web import webapp

    return webapp.create("protools_saga", runtime, read, routes.api)
