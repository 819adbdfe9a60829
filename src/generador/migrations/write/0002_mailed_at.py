"""Let a password expire by the time of its mail; what was issued before keeps the time it has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "when its link could be used, from which on it expires; null before"
    op.add_column("password", sa.Column("mailed_at", sa.Double(), nullable=True, comment=comment))
    op.execute("UPDATE password SET mailed_at = issued_at WHERE sealed_key IS NOT NULL")
    with op.batch_alter_table("password", schema=None) as batch_op:
        batch_op.drop_index("password_unrevealed")
        batch_op.create_index(
            "password_unrevealed",
            ["mailed_at"],
            unique=False,
            postgresql_where=sa.text("sealed_key IS NOT NULL"),
            sqlite_where=sa.text("sealed_key IS NOT NULL"),
        )
