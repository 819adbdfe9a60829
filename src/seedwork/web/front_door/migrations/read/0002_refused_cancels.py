"""Note which cancels came to nothing, and that a command without a saga has two versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pulsaga.delivery.tables import Id

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "refused_cancel",
        sa.Column("id", Id, nullable=False, comment="of a CancelSaga that came to nothing: it may be said again"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    if op.get_bind().dialect.name == "postgresql":  # SQLite keeps no comments
        op.alter_column(
            "command_move",
            "version",
            existing_type=sa.Integer(),
            existing_nullable=False,
            comment="counts without a gap from 1; 0 or 1 without a saga",
            existing_comment="counts without a gap from 1; 0 without a saga",
        )
