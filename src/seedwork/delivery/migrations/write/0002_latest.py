"""Keep which message of a kind is the newest for its aggregate."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "latest",
        sa.Column("id", sa.String(), nullable=False, comment="message type and aggregate, separated by a space"),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("accepted_at", sa.Double(), nullable=False, comment="of the newest such message that was handled"),
        sa.Column(
            "late",
            sa.Integer(),
            nullable=False,
            comment="number of older events that came after it and changed nothing",
        ),
        sa.PrimaryKeyConstraint("id"),
    )
