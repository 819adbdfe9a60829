"""The workflows of this system, and the commands that start them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def create_app() -> Flask:
    """Return the app that shows sagas, for `flask --app src/protools_saga run`."""
    from pulsaga.web import app_of

    return app_of("protools_saga")
