"""Show the branches of sagas."""

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
        "saga_branch_view",
        sa.Column("id", sa.String(), nullable=False, comment="id of the saga, and the path"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("saga_id", Id, nullable=False),
        sa.Column("steps", sa.Text(), nullable=False, comment="JSON list"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("saga_branch_view_saga", "saga_branch_view", ["saga_id"])
