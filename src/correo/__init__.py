"""Send mails, one per command, and show what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy import Engine

    from pulsaga.system import Runtime


def create_app(runtime: Runtime, read: Engine) -> Flask:
    """Return the WSGI app that shows mails."""
    from correo import routes
    from pulsaga.web import webapp

    return webapp.create("correo", runtime, read, routes.api)
