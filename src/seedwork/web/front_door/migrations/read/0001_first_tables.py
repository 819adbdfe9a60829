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
        "command",
        sa.Column("id", Id, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=True, comment="who asked for it; null for what came by no front door"),
        sa.Column("status", sa.String(), nullable=False, comment="running, completed, refused or suspended"),
        sa.Column("reason_code", sa.String(), nullable=False),
        sa.Column("reason_detail", sa.Text(), nullable=False),
        sa.Column(
            "cancellable", sa.Boolean(), nullable=False, comment="whether to cancel it is still possible, or was done"
        ),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "command_move",
        sa.Column("id", Id, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts without a gap from 1; 0 without a saga"),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason_code", sa.String(), nullable=False),
        sa.Column("reason_detail", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", "version"),
    )
