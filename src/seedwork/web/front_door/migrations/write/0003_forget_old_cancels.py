"""Forget the cancels of before: which of them were refused was not noted, and each may be said again."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DELETE FROM cancellation")
