"""Ask the front door's read database for users, and show them as resources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, select

from bff.users.tables import email_history, user
from pulsaga import rfc3339
from pulsaga.web import Standing, http

Resource = dict[str, Any]
ISSUER = "usuarios"


def standing(read: Engine, user_id: str) -> Standing:
    """Return what a user may do by now; one of whom nothing is known yet has just signed up."""
    known = http.identifier(user_id)
    query = select(user.c.admin, user.c.active, user.c.sessions_not_before).where(user.c.user_id == known)
    with read.connect() as connection:
        row = connection.execute(query).first() if known else None
    if row is None:
        return Standing()
    return Standing("admin" if row.admin else "caller", row.sessions_not_before if row.active else math.inf)


def find_user(read: Engine, user_id: str) -> Resource | None:
    """Look up a user."""
    with read.connect() as connection:
        row = connection.execute(select(user).where(user.c.user_id == user_id)).mappings().first()
    return user_resource(row) if row else None


def holder_of(read: Engine, username: str) -> tuple[str, str] | None:
    """Return id and address of the user of this name, or None."""
    query = select(user.c.user_id, user.c.email).where(user.c.username == username)
    with read.connect() as connection:
        row = connection.execute(query).first()
    return (row.user_id, row.email) if row else None


def list_users(read: Engine, after: str | None, limit: int) -> Resource:
    """List users by id, which is by age, from behind `after` on."""
    query = select(user).order_by(user.c.user_id).limit(limit + 1)
    if after:
        query = query.where(user.c.user_id > after)
    with read.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return {"users": [user_resource(row) for row in rows[:limit]]} | http.next_page(rows, limit, "after", "user_id")


def list_emails(read: Engine, user_id: str) -> Resource:
    """List the addresses that a user has had, the first one first, each with who changed it, and when."""
    rows = select(email_history).where(email_history.c.user_id == user_id).order_by(email_history.c.version)
    with read.connect() as connection:
        found = connection.execute(rows).mappings().all()
    changes = [
        row for before, row in zip([None, *found], found, strict=False) if not before or before["email"] != row["email"]
    ]
    return {"emails": [{"email": row["email"], "actor": row["actor"], "at": rfc3339(row["at"])} for row in changes]}


def user_resource(row: Mapping[Any, Any]) -> Resource:
    """Show what is known of a user, never a password."""
    return {
        "_id": row["user_id"],
        "username": row["username"],
        "firstName": row["first_name"],
        "lastName": row["last_name"],
        "phone": row["phone"],
        "email": row["email"],
        "role": "admin" if row["admin"] else "user",
        "active": row["active"],
        "createdAt": rfc3339(row["created_at"]),
        "links": {"self": http.path("users", row["user_id"])},
    }
