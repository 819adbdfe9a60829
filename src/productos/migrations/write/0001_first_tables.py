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
        "producto",
        sa.Column("id_producto", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("nombre", sa.String(), nullable=False),
        sa.Column("stock", sa.Integer(), nullable=False),
        sa.Column("reservado", sa.Integer(), nullable=False),
        sa.Column("entregado", sa.Integer(), nullable=False),
        sa.Column("estado", sa.String(), nullable=False, comment="activo or retirado"),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.CheckConstraint("stock >= 0 AND reservado >= 0 AND entregado >= 0", name="producto_is_there"),
        sa.PrimaryKeyConstraint("id_producto"),
    )
    op.create_table(
        "reserva",
        sa.Column("id", sa.String(), nullable=False, comment="order and product"),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("id_orden", sa.String(), nullable=False),
        sa.Column("id_producto", sa.String(), nullable=False),
        sa.Column(
            "command_id",
            sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"),
            nullable=False,
            comment="of the ReserveStock",
        ),
        sa.Column("cantidad", sa.Integer(), nullable=False),
        sa.Column("estado", sa.String(), nullable=False, comment="reservada, liberada or entregada"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("reserva", schema=None) as batch_op:
        batch_op.create_index("reserva_producto", ["id_producto"], unique=False)
