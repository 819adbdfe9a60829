"""Create the first tables."""

from __future__ import annotations

from pulsaga.alembic.delivery import create_delivery_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_delivery_tables()
