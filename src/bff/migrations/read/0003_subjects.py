"""Change nothing: subjects are in the front door's own history now; databases of before know this number."""

from __future__ import annotations

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Leave the tables as they are."""
