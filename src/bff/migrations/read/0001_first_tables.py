"""Create the first table; what shows commands is made by the front door's own history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "password",
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=True, comment="who asked for it; null for what came by no front door"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False, comment="issued, revealed, revoked or expired"),
        sa.Column("issued_at", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("username"),
    )
    with op.batch_alter_table("password", schema=None) as batch_op:
        batch_op.create_index("password_actor", ["actor", "username"], unique=False)
        batch_op.create_index("password_changed", ["changed_at"], unique=False)
