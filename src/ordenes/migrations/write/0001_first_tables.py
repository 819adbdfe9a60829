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
        "orden",
        sa.Column("id_orden", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("lineas", sa.Text(), nullable=False, comment="JSON: product and number of each line"),
        sa.Column("direccion_entrega", sa.Text(), nullable=False),
        sa.Column("time_stamp", sa.Double(), nullable=False),
        sa.Column("estado", sa.String(), nullable=False, comment="creada, iniciada, entregada or fallida"),
        sa.Column("id_driver", sa.String(), nullable=True),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id_orden"),
    )
