"""Show who may send a signal by a token."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pulsaga.delivery.tables import Id

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "signal_token",
        sa.Column(
            "id", sa.String(), nullable=False, comment="SHA-256 of a token in hex: who bears it may send the signal"
        ),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("saga_id", Id, nullable=False),
        sa.Column("signal", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
