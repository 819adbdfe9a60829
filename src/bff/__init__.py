"""Be the front door: accept commands over HTTP, show where they stand, reveal a password once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def create_app() -> Flask:
    """Return the app of the front door, for `flask --app src/bff run -p 3000`."""
    from pulsaga.web import app_of

    return app_of("bff")
