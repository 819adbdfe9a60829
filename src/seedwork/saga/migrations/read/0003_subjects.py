"""Find the sagas of a subject among a million."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("saga_view_subject", "saga_view", ["subject"])
