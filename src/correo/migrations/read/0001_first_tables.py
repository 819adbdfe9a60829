"""Create the first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from seedwork.delivery import Id

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "failure",
        sa.Column("id", sa.String(), nullable=False, comment="ce_id, or the hash of bytes that have none"),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column(
            "delivery", sa.LargeBinary(), nullable=False, comment="packed as received, with the writer's schema version"
        ),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("failure", schema=None) as batch_op:
        batch_op.create_index("failure_due", ["due_at"], unique=False)

    op.create_table(
        "mail_view",
        sa.Column("id", Id, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("recipient", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
