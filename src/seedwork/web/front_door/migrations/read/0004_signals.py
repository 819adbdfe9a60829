"""Show which signals commands wait for."""

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
        "awaited",
        sa.Column("id", sa.String(), nullable=False, comment="id of the saga, and the path"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("saga_id", Id, nullable=False),
        sa.Column("signal", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False, comment="open, taken or over"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("awaited_saga", "awaited", ["saga_id"])
