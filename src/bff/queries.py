"""Ask the front door's read database for passwords, and show them as resources."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, RowMapping, select

from bff.tables import password
from pulsaga import rfc3339
from pulsaga.web import http, visible

Resource = dict[str, Any]


def find_password(read: Engine, username: str, actor: str | None = None) -> Resource | None:
    """Look up a user's password: its state, never a secret; with an actor, only one that this caller asked for."""
    asked = select(password).where(password.c.username == username, visible(password, actor))
    with read.connect() as connection:
        row = connection.execute(asked).mappings().first()
    return password_resource(row) if row else None


def list_passwords(read: Engine, after: str | None, limit: int, actor: str | None = None) -> Resource:
    """List passwords by username, from behind `after` on, with a link to the next page if there is one."""
    query = select(password).where(visible(password, actor)).order_by(password.c.username).limit(limit + 1)
    if after is not None:
        query = query.where(password.c.username > after)
    with read.connect() as connection:
        rows = connection.execute(query).mappings().all()
    page = {"passwords": [password_resource(row) for row in rows[:limit]]}
    return page | http.next_page(rows, limit, "after", "username")


def password_resource(row: RowMapping) -> Resource:
    """Show what is known of a password."""
    return {
        "username": row["username"],
        "status": row["status"],
        "version": row["version"],
        "issuedAt": rfc3339(row["issued_at"]),
        "changedAt": rfc3339(row["changed_at"]),
        "links": {"self": http.path("passwords", row["username"])},
    }
