"""Orders, products and drivers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "conductor",
        sa.Column("id_driver", sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("nombre", sa.String(), nullable=False),
        sa.Column("id_orden", sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"), nullable=True),
        sa.PrimaryKeyConstraint("id_driver"),
    )
    op.create_table(
        "orden",
        sa.Column("id_orden", sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("lineas", sa.Text(), nullable=False, comment="JSON"),
        sa.Column("direccion_entrega", sa.Text(), nullable=False),
        sa.Column("time_stamp", sa.Double(), nullable=False),
        sa.Column("estado", sa.String(), nullable=False),
        sa.Column("id_driver", sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"), nullable=True),
        sa.PrimaryKeyConstraint("id_orden"),
    )
    with op.batch_alter_table("orden", schema=None) as batch_op:
        batch_op.create_index("orden_user", ["user_id", "id_orden"], unique=False)

    op.create_table(
        "producto",
        sa.Column(
            "id_producto", sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"), nullable=False
        ),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("nombre", sa.String(), nullable=False),
        sa.Column("stock", sa.Integer(), nullable=False),
        sa.Column("reservado", sa.Integer(), nullable=False),
        sa.Column("entregado", sa.Integer(), nullable=False),
        sa.Column("estado", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id_producto"),
    )
