"""Generate passwords, keep them as a vault, reveal each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy import Engine

    from pulsaga.system import Runtime


def create_app(runtime: Runtime, read: Engine) -> Flask:
    """Return the WSGI app that shows passwords and, to the front door alone, reveals them."""
    from generador import routes
    from pulsaga.web import webapp

    return webapp.create("generador", runtime, read, routes.api)
