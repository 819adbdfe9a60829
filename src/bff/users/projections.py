"""Project users into the front door's read database."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Table

from bff.users.tables import email_history, user
from pulsaga import Message, Projection, Row
from usuarios.messages import UserChanged

STATE = [column.name for column in user.c if column.name != "version"]


def project_user(message: Message[UserChanged]) -> Iterable[tuple[Table, Row]]:
    """Show a user's newest state, and every address there was."""
    state, version = message.body, message.version
    row = {**{name: getattr(state, name) for name in STATE}, "version": version}
    about = {"user_id": state.user_id, "email": state.email, "actor": message.context.actor, "at": state.changed_at}
    return ((user, row), (email_history, {**about, "version": version}))


PROJECTIONS = [Projection(UserChanged, project_user)]
