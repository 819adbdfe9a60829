"""Note what starts by the calendar, and when; and what waits for its turn under a limit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pulsaga.delivery.tables import Id

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schedule",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("times", sa.String(), nullable=False, comment="cron expression and time zone"),
        sa.Column("tick_at", sa.Double(), nullable=False, comment="the tick that is fired next"),
        sa.Column("next_at", sa.Double(), nullable=True, comment="when it is looked at next; null while it is paused"),
        sa.Column("last_id", Id, nullable=True, comment="of the saga that the last tick has started"),
        sa.Column("last_at", sa.Double(), nullable=True, comment="when it was started"),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "slot",
        sa.Column("id", sa.String(), nullable=False, comment="id of the saga, and the path of its step"),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("limit_key", sa.String(), nullable=False),
        sa.Column("saga_id", Id, nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False, comment="waiting, held or free; what is free is deleted"),
        sa.Column("at", sa.Double(), nullable=False, comment="since when it waits"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("slot_turn", "slot", ["limit_key", "state", "at"])
    op.create_index("slot_saga", "slot", ["saga_id"])
    op.create_table(
        "slot_limit",
        sa.Column("limit_key", sa.String(), nullable=False, comment="held by whoever gives out its slots"),
        sa.PrimaryKeyConstraint("limit_key"),
    )
    there = sa.text("next_at IS NOT NULL")
    op.create_index("schedule_next", "schedule", ["next_at"], postgresql_where=there, sqlite_where=there)
