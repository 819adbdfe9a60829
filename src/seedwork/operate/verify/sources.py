"""Name what is read of the front door and of the coordinator's read model, beside what every service has."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, Table, func, select

from pulsaga.operate.verify.check import Checks, FactTable, Floor
from pulsaga.saga.tables import saga_branch_view, saga_move, saga_view
from pulsaga.settings import Side
from pulsaga.web.front_door.tables import acceptance, cancellation, command, command_move, webhook


def _by_id(name: str, table: Table, *columns: str, side: Side = "write") -> FactTable:
    """Declare rows that are looked up by their id, a command's or a saga's."""
    read = select(*(table.c[column] for column in columns))
    return FactTable(name, lambda floor: read.where(table.c.id >= floor.id), side=side, index=["id"])


def _command_moves(floor: Floor) -> Select[Any]:
    of = command_move.c
    counted = select(of.id, func.count().label("moves"), func.max(of.version).label("last"))
    return counted.where(of.version > 0, of.id >= floor.id).group_by(of.id)


def _moves(floor: Floor) -> Select[Any]:
    of = saga_move.c
    return select(of.id, func.count().label("moves")).where(of.id >= floor.id).group_by(of.id)


def _branches(floor: Floor) -> Select[Any]:
    of = saga_branch_view.c
    return select(of.id, of.version).where(of.saga_id >= floor.id)


SHOWN = ("id", "version", "status", "reason_code", "subject")
REQUESTS = Checks(
    facts=[
        _by_id("accepted", acceptance, "id", "subject", "actor", "idempotency_key", "created_at"),
        _by_id("cancelled", cancellation, "id", "command_id", "at"),
        _by_id("webhook", webhook, "id", "url", "status", "due_at", "created_at", "ended_at"),
        _by_id("view_command", command, *SHOWN, "actor", side="read"),
        FactTable("view_command_moves", _command_moves, side="read", index=["id"]),
    ]
)
"""What the front door accepted, was asked to cancel, owes its callers, and shows them."""

MOVES = [
    _by_id("view_saga", saga_view, *SHOWN, "moved_at", side="read"),
    FactTable("view_moves", _moves, side="read", index=["id"]),
    FactTable("view_branch", _branches, side="read", index=["id"]),
]
"""What the coordinator shows of sagas."""
