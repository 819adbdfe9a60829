"""Put those starting commands in front of operators again that were discarded when that ended nothing."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LETTERS = """
outcome = 'discarded' AND topic NOT LIKE '%.cancel-saga'
AND EXISTS (SELECT 1 FROM event WHERE CAST(answers AS VARCHAR) = dead_letter.id AND type LIKE '%.command-failed')
"""
INCIDENTS = """
kind = 'dead-letter' AND subject IN (SELECT id FROM dead_letter WHERE outcome IS NULL)
AND NOT EXISTS (SELECT 1 FROM incident later
    WHERE later.subject = incident.subject AND later.kind = incident.kind AND later.at > incident.at)
"""


def upgrade() -> None:
    op.execute(f"UPDATE dead_letter SET outcome = NULL, ended_at = NULL WHERE {LETTERS}")  # noqa: S608 - our own text
    op.execute(f"UPDATE incident SET closed_at = NULL WHERE {INCIDENTS}")  # noqa: S608 - our own text
