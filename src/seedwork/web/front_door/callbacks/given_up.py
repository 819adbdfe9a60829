"""Find the calls that were given up on, and make them anew."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, String, cast, select, update

from pulsaga.delivery.tables import incident
from pulsaga.delivery.transaction.rows import Row
from pulsaga.errors import DomainError
from pulsaga.web.front_door.tables import webhook

SUBJECT = cast(webhook.c.id, String)
KIND = "webhook"
"""Of the incident that tells of a call that was given up on."""


def given_up(tx: Connection) -> list[Row]:
    """Return the calls that were given up on and lie in front of an operator, the oldest first."""
    told = (incident.c.subject == SUBJECT) & (incident.c.kind == KIND) & incident.c.closed_at.is_(None)
    return _rows(tx, select(webhook).join(incident, told).order_by(webhook.c.ended_at))


def waiting(tx: Connection) -> list[Row]:
    """Return the calls that are still to be made, or to be made again, the next one first."""
    return _rows(tx, select(webhook).where(webhook.c.due_at.is_not(None)).order_by(webhook.c.due_at))


def _rows(tx: Connection, query: Select[Any]) -> list[Row]:
    return [dict(row) for row in tx.execute(query).mappings()]


def find(tx: Connection, command_id: str) -> Row | None:
    """Return the call about a command, locked; None where nobody has asked for one."""
    rows = _rows(tx, select(webhook).where(webhook.c.id == command_id).with_for_update())
    return rows[0] if rows else None


def check_dead(row: Row) -> None:
    """Raise DomainError for a call that was not given up on."""
    if row["status"] != "dead":
        raise DomainError(row["status"], f"the call about {row['id']} is {row['status']}: it was not given up on")


def call_again(tx: Connection, row: Row, now: float) -> None:
    """Make a call anew, with all its attempts ahead of it, and close its incident."""
    fresh = {"status": "waiting", "attempts": 0, "claim": None, "due_at": now, "ended_at": None, "error": ""}
    this = update(webhook).where(webhook.c.id == row["id"])
    tx.execute(this.values(fresh | {"revision": webhook.c.revision + 1}))
    about = (incident.c.subject == row["id"]) & (incident.c.kind == KIND) & incident.c.closed_at.is_(None)
    tx.execute(update(incident).where(about).values(closed_at=now))
