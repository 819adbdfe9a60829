"""Mails: one for each command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def create_app() -> Flask:
    """Return the app that shows mails, for `flask --app src/correo run`."""
    from pulsaga.web import app_of

    return app_of("correo")
