"""First tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "conductor",
        sa.Column("id_driver", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("nombre", sa.String(), nullable=False),
        sa.Column("id_orden", sa.String(), nullable=True, comment="the order in hand; null for who is free"),
        sa.Column(
            "command_id",
            sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"),
            nullable=True,
            comment="of the AssignDriver",
        ),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id_driver"),
        sa.UniqueConstraint("command_id"),
        sa.UniqueConstraint("id_orden"),
    )
