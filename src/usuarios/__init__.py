"""Keep people: sign-up, log-in, their addresses; say who they are by tokens of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def create_app() -> Flask:
    """Return its app, for `flask --app src/usuarios run`."""
    from pulsaga.web import app_of

    return app_of("usuarios")
