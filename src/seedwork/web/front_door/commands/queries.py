"""Ask the front door's read database where commands stand, and show them as resources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Engine, RowMapping, select

from pulsaga.delivery.transaction.unit_of_work import rfc3339
from pulsaga.web import http
from pulsaga.web.front_door.acceptance import Accepted
from pulsaga.web.front_door.door import CommandView, Views, view_of
from pulsaga.web.front_door.tables import command, command_move, visible

Resource = dict[str, Any]
ENDED = ("completed", "refused")
WITH_AN_OPERATOR = dict.fromkeys(
    ("dead-letter", "reply-failed"), "it could not be handled; an operator has been told, and it is not lost"
)
"""What callers are told, by the code of a reason whose detail names classes, files and lines, which are operators'."""


def find_command(read: Engine, views: Views, identifier: str, actor: str | None = None) -> Resource | None:
    """Look up where a command stands, once its saga has moved; with an actor, only one of that caller."""
    asked = select(command).where(command.c.id == identifier, visible(command, actor))
    with read.connect() as connection:
        row = connection.execute(asked).mappings().first()
    return command_resource(views, row) if row else None


def find_ended(read: Engine, identifiers: Sequence[str]) -> dict[str, RowMapping]:
    """Look up which of these commands have ended, and how, by id."""
    ended = select(command).where(command.c.id.in_(identifiers), command.c.status.in_(ENDED))
    with read.connect() as connection:
        return {row["id"]: row for row in connection.execute(ended).mappings()}


def reasons_of(read: Engine, identifiers: Sequence[str]) -> dict[str, dict[str, str]]:
    """Look up why these commands were refused, by id, as they are shown; for resources that bear a command's id."""
    query = select(command.c.id, command.c.reason_code, command.c.reason_detail).where(command.c.id.in_(identifiers))
    with read.connect() as connection:
        rows = connection.execute(query.where(command.c.reason_code != "")).all() if identifiers else []
    return {identifier: _reason(code, detail) for identifier, code, detail in rows}


def moves_behind(read: Engine, views: Views, identifier: str, version: int) -> Iterator[Resource]:
    """Yield a command as it stood after each move behind `version` (-1: from the first), up to a gap."""
    about = command.c.id, command.c.type, command.c.subject, command.c.created_at
    moved = [column for column in command_move.columns if column.name != "id"]
    joined = select(*about, *moved).join_from(command_move, command, command_move.c.id == command.c.id)
    behind = joined.where(command_move.c.id == identifier, command_move.c.version > version)
    with read.connect() as connection:
        rows = connection.execute(behind.order_by(command_move.c.version)).mappings().all()
    for row in rows:
        if row["version"] > max(version, 0) + 1:  # the one before it is projected later
            return
        version = row["version"]
        yield command_resource(views, row)


def command_resource(views: Views, row: RowMapping) -> Resource:
    """Show where a command stands."""
    view = view_of(views, row["type"])
    return {
        "id": row["id"],
        "type": view.type,
        view.subject: row["subject"],
        "status": row["status"],
        "version": row["version"],
        **({"reason": _reason(row["reason_code"], row["reason_detail"])} if row["reason_code"] else {}),
        "createdAt": rfc3339(row["created_at"]),
        "updatedAt": rfc3339(row["updated_at"]),
        "links": _links(view, row["id"], row["subject"]),
    }


def _reason(code: str, detail: str) -> dict[str, str]:
    return {"code": code, "detail": WITH_AN_OPERATOR.get(code, detail)}


def etag(resource: Resource) -> str:
    """Name the state of a command (RFC 9110 §8.8.3); weak, for it is the same in every format."""
    return f'W/"{resource.get("version", resource["status"])}"'


def accepted_resource(views: Views, accepted: Accepted) -> Resource:
    """Show that a command was accepted and nothing else is known of it."""
    at, view = rfc3339(accepted.created_at), view_of(views, accepted.type)
    return {
        "id": accepted.id,
        "type": view.type,
        view.subject: accepted.subject,
        "status": "accepted",
        "createdAt": at,
        "updatedAt": at,
        "links": _links(view, accepted.id, accepted.subject),
    }


def _links(view: CommandView, identifier: str, subject: str) -> dict[str, str]:
    links = {link.name: link.path(identifier if link.by_id else subject) for link in view.links}
    return {"self": http.path("commands", identifier), **links}
