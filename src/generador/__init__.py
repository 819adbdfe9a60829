"""Passwords: generated, kept in a vault, each revealed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def create_app() -> Flask:
    """Return the app that shows passwords, for `flask --app src/generador run`."""
    from pulsaga.web import app_of

    return app_of("generador")
