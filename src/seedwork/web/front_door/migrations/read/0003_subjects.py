"""Name what a command is about by no workflow's word: its username becomes its subject."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE command RENAME COLUMN username TO subject")
