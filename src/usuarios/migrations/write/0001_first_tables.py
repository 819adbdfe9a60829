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
        "sesion",
        sa.Column(
            "jti",
            sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"),
            nullable=False,
            comment="of its token",
        ),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"), nullable=False),
        sa.Column("issued_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column(
            "revoked_at",
            sa.Double(),
            nullable=True,
            comment="from when on its token is not good any more; null while it is",
        ),
        sa.PrimaryKeyConstraint("jti"),
    )
    with op.batch_alter_table("sesion", schema=None) as batch_op:
        batch_op.create_index("sesion_over", ["expires_at"], unique=False)
