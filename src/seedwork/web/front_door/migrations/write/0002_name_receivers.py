"""Name the receiver of each callback, which bounds how many are called at a time."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("receiver", sa.Text(), nullable=False, server_default="", comment="host and port of the URL")
    op.add_column("webhook", column)
    waiting = sa.text("SELECT id, url FROM webhook WHERE due_at IS NOT NULL")
    named_now = [{"id": row.id, "receiver": _receiver(row.url)} for row in op.get_bind().execute(waiting)]
    if named_now:
        op.get_bind().execute(sa.text("UPDATE webhook SET receiver = :receiver WHERE id = :id"), named_now)


def _receiver(url: str) -> str:
    """Return host and port; nothing for a URL that says none, which is as good a name."""
    with suppress(ValueError):
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    return ""
