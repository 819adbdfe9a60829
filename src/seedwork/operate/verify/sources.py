"""Name what is read of the front door and of the coordinator's read model, beside what every service has."""

from __future__ import annotations

from sqlalchemy import func, select

from bff.tables import acceptance, cancellation, command, command_move, webhook
from pulsaga.operate.verify.check import Checks, FactTable
from pulsaga.saga.tables import saga_move, saga_view

REQUESTS = Checks(
    facts=[
        FactTable(
            "accepted",
            lambda floor: select(
                acceptance.c.id,
                acceptance.c.username.label("subject"),
                acceptance.c.actor,
                acceptance.c.idempotency_key,
                acceptance.c.created_at.label("at"),
            ).where(acceptance.c.id >= floor.id),
            index=["id"],
        ),
        FactTable(
            "cancelled",
            lambda floor: select(cancellation.c.id, cancellation.c.command_id, cancellation.c.at).where(
                cancellation.c.id >= floor.id
            ),
        ),
        FactTable(
            "webhook",
            lambda floor: select(
                *(webhook.c[name] for name in ("id", "url", "status", "due_at", "created_at", "ended_at"))
            ).where(webhook.c.id >= floor.id),
        ),
        FactTable(
            "view_command",
            lambda floor: select(
                command.c.id,
                command.c.version,
                command.c.username.label("subject"),
                command.c.actor,
                command.c.status,
                command.c.reason_code,
            ).where(command.c.id >= floor.id),
            side="read",
            index=["id"],
        ),
        FactTable(
            "view_command_moves",
            lambda floor: (
                select(command_move.c.id, func.count().label("moves"), func.max(command_move.c.version).label("last"))
                .where(command_move.c.version > 0, command_move.c.id >= floor.id)
                .group_by(command_move.c.id)
            ),
            side="read",
            index=["id"],
        ),
    ]
)
"""What the front door accepted, was asked to cancel, owes its callers, and shows them."""

MOVES = [
    FactTable(
        "view_saga",
        lambda floor: select(
            *(saga_view.c[name] for name in ("id", "version", "status", "reason_code", "subject", "moved_at"))
        ).where(saga_view.c.id >= floor.id),
        side="read",
        index=["id"],
    ),
    FactTable(
        "view_moves",
        lambda floor: (
            select(saga_move.c.id, func.count().label("moves"))
            .where(saga_move.c.id >= floor.id)
            .group_by(saga_move.c.id)
        ),
        side="read",
        index=["id"],
    ),
]
"""What the coordinator shows of sagas."""
