"""Project what the other services tell into the front door's read database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Table

from bff.tables import password
from generador.messages import (
    PasswordExpired,
    PasswordGenerated,
    PasswordRevealed,
    PasswordRevoked,
    PasswordRotated,
    PasswordState,
)
from pulsaga import Message, Projection, Row


def project_password(message: Message[PasswordState]) -> Iterable[tuple[Table, Row]]:
    """Show a password's newest state, never a secret."""
    state = message.body
    row = {name: getattr(state, name) for name in ("username", "status", "issued_at", "changed_at")}
    return ((password, {**row, "actor": message.context.actor, "version": message.version}),)


PASSWORDS = (PasswordGenerated, PasswordRevoked, PasswordRevealed, PasswordExpired, PasswordRotated)
PROJECTIONS: list[Projection[Any]] = [Projection(event, project_password) for event in PASSWORDS]
