"""Name what a command is about by no workflow's word: an acceptance's username becomes its subject."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE acceptance RENAME COLUMN username TO subject")
