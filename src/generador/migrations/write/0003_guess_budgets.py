"""Count wrong guesses by source; what was counted by name and address before was forgotten after an hour anyway."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("failed_attempt")
    op.create_table(
        "guess_budget",
        sa.Column(
            "key",
            sa.String(),
            nullable=False,
            comment="its kind, and an HMAC of a username, of who asks from where, or of both",
        ),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column(
            "of_user",
            sa.String(),
            nullable=True,
            comment="HMAC of the username, where the budget is that of one source with one user",
        ),
        sa.Column("full_at", sa.Double(), nullable=False, comment="when all wrong guesses are forgotten"),
        sa.Column(
            "known_until", sa.Double(), nullable=False, comment="of a source that gave the right password; else 0"
        ),
        sa.PrimaryKeyConstraint("key"),
    )
    with op.batch_alter_table("guess_budget", schema=None) as batch_op:
        batch_op.create_index("guess_budget_known", ["of_user", "known_until"], unique=False)
        batch_op.create_index("guess_budget_over", ["known_until", "full_at"], unique=False)
