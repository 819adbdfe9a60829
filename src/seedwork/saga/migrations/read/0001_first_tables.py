"""Create the first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pulsaga.delivery.tables import Id

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "saga_move",
        sa.Column("id", Id, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("entries", sa.Text(), nullable=False, comment="JSON list of log entries, without data"),
        sa.PrimaryKeyConstraint("id", "version"),
    )
    op.create_table(
        "saga_view",
        sa.Column("id", Id, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("workflow", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=True, comment="who asked for it; null for what came by no front door"),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason_code", sa.String(), nullable=False),
        sa.Column("reason_detail", sa.Text(), nullable=False),
        sa.Column("steps", sa.Text(), nullable=False, comment="JSON list"),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("moved_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("saga_view", schema=None) as batch_op:
        batch_op.create_index("saga_view_started", ["started_at"], unique=False)
