"""Project users into their read database."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Table

from pulsaga import Message, Row
from usuarios.messages import UserChanged
from usuarios.tables import usuario_view

SHOWN = [column.name for column in usuario_view.c if column.name != "version"]


def project_user(message: Message[UserChanged]) -> Iterable[tuple[Table, Row]]:
    """Show a user's newest state."""
    return ((usuario_view, {**{name: getattr(message.body, name) for name in SHOWN}, "version": message.version}),)
