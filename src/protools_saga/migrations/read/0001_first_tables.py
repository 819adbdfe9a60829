"""Create the first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from seedwork.delivery import Id

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "failure",
        sa.Column("id", sa.String(), nullable=False, comment="ce_id, or the hash of bytes that have none"),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column(
            "delivery", sa.LargeBinary(), nullable=False, comment="packed as received, with the writer's schema version"
        ),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("failure", schema=None) as batch_op:
        batch_op.create_index("failure_due", ["due_at"], unique=False)

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
