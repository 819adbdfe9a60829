"""Ask the front door's read database, and say what it holds as resources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Engine, RowMapping, Table, select

from bff.acceptance import Accepted
from bff.tables import command, command_move, password, visible
from pulsaga.delivery.unit_of_work import rfc3339
from pulsaga.web import http

Resource = dict[str, Any]
ENDED = ("completed", "refused")
WITH_AN_OPERATOR = dict.fromkeys(
    ("dead-letter", "reply-failed"), "it could not be handled; an operator has been told, and it is not lost"
)
"""What callers are told, by the code of a reason whose detail names classes, files and lines, which are operators'."""


def find_command(read: Engine, identifier: str, scope: str | None = None) -> Resource | None:
    """Look up where a command stands, once its saga has moved; with a scope, only one of that caller."""
    row = _find(read, command, identifier, scope)
    return command_resource(row) if row else None


def find_ended(read: Engine, identifiers: Sequence[str]) -> dict[str, RowMapping]:
    """Look up which of these commands have ended, and how, by id."""
    ended = select(command).where(command.c.id.in_(identifiers), command.c.status.in_(ENDED))
    with read.connect() as connection:
        return {row["id"]: row for row in connection.execute(ended).mappings()}


def moves_behind(read: Engine, identifier: str, version: int) -> Iterator[Resource]:
    """Yield a command as it stood after each move behind `version` (-1: from the first), up to a gap."""
    about = command.c.id, command.c.type, command.c.username, command.c.created_at
    moved = [column for column in command_move.columns if column.name != "id"]
    joined = select(*about, *moved).join_from(command_move, command, command_move.c.id == command.c.id)
    behind = joined.where(command_move.c.id == identifier, command_move.c.version > version)
    with read.connect() as connection:
        rows = connection.execute(behind.order_by(command_move.c.version)).mappings().all()
    for row in rows:
        if row["version"] > max(version, 0) + 1:  # the one before it is projected later
            return
        version = row["version"]
        yield command_resource(row)


def find_password(read: Engine, username: str, scope: str | None = None) -> Resource | None:
    """Look up a user's password: its state, never a secret; with a scope, only one that this caller asked for."""
    row = _find(read, password, username, scope)
    return password_resource(row) if row else None


def _find(read: Engine, table: Table, key: str, scope: str | None) -> RowMapping | None:
    (primary,) = table.primary_key.columns
    with read.connect() as connection:
        return connection.execute(select(table).where(primary == key, visible(table, scope))).mappings().first()


def list_passwords(read: Engine, after: str | None, limit: int, scope: str | None = None) -> Resource:
    """List passwords by username, from behind `after` on, with a link to the next page if there is one."""
    query = select(password).where(visible(password, scope)).order_by(password.c.username).limit(limit + 1)
    if after is not None:
        query = query.where(password.c.username > after)
    with read.connect() as connection:
        rows = connection.execute(query).mappings().all()
    page = {"passwords": [password_resource(row) for row in rows[:limit]]}
    return page | http.next_page(rows, limit, "after", "username")


def command_resource(row: RowMapping) -> Resource:
    """Say where a command stands."""
    reason = {"code": row["reason_code"], "detail": WITH_AN_OPERATOR.get(row["reason_code"], row["reason_detail"])}
    return {
        "id": row["id"],
        "type": row["type"],
        "username": row["username"],
        "status": row["status"],
        "version": row["version"],
        **({"reason": reason} if row["reason_code"] else {}),
        "createdAt": rfc3339(row["created_at"]),
        "updatedAt": rfc3339(row["updated_at"]),
        "links": _links(row["id"], row["username"]),
    }


def etag(resource: Resource) -> str:
    """Name the state of a command (RFC 9110 §8.8.3); weak, for it is the same in every format."""
    return f'W/"{resource.get("version", resource["status"])}"'


def accepted_resource(accepted: Accepted) -> Resource:
    """Say that a command was accepted and nothing else is known of it."""
    at = rfc3339(accepted.created_at)
    return {
        "id": accepted.id,
        "type": accepted.type,
        "username": accepted.username,
        "status": "accepted",
        "createdAt": at,
        "updatedAt": at,
        "links": _links(accepted.id, accepted.username),
    }


def password_resource(row: RowMapping) -> Resource:
    """Say what is known of a password."""
    return {
        "username": row["username"],
        "status": row["status"],
        "version": row["version"],
        "issuedAt": rfc3339(row["issued_at"]),
        "changedAt": rfc3339(row["changed_at"]),
        "links": {"self": http.path("passwords", row["username"])},
    }


def _links(identifier: str, username: str) -> dict[str, str]:
    return {"self": http.path("commands", identifier), "password": http.path("passwords", username)}
