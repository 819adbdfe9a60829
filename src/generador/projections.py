"""Project the life of passwords into generador's read database."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Table

from generador.messages import PasswordState
from generador.tables import password_view
from pulsaga import Message, Row


def project_password(message: Message[PasswordState]) -> Iterable[tuple[Table, Row]]:
    """Show a password's newest state."""
    state = message.body
    row = {name: getattr(state, name) for name in ("username", "status", "issued_at", "changed_at")}
    return ((password_view, {**row, "version": message.version}),)
