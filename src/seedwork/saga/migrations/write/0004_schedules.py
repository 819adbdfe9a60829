"""Note what starts by the calendar, and when."""

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
    there = sa.text("next_at IS NOT NULL")
    op.create_index("schedule_next", "schedule", ["next_at"], postgresql_where=there, sqlite_where=there)
