"""Keep a heartbeat of every process; tell what type of message an incident is about, and whether it was told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pulsaga.delivery.tables import Id

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "heartbeat",
        sa.Column("id", Id, nullable=False, comment="of one run of one process"),
        sa.Column("kind", sa.String(), nullable=False, comment="worker, web, or a kind of the service's own"),
        sa.Column("replica", sa.String(), nullable=False, comment="host and process id"),
        sa.Column("version", sa.String(), nullable=False, comment="of the system that it runs"),
        sa.Column("address", sa.String(), comment="host and port on which it answers operators"),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("beat_at", sa.Double(), nullable=False),
        sa.Column(
            "ended_at", sa.Double(), comment="when it said that it ends; null while it runs, or if it was killed"
        ),
        sa.Column("last_batch_at", sa.Double()),
        sa.Column("last_error", sa.Text()),
        sa.Column("waits_since", sa.Double()),
        sa.Column("waits_for", sa.Text()),
        sa.Column(
            "clock_ahead_s", sa.Double(), comment="seconds that the clock of its machine is ahead of the database's"
        ),
        sa.Column(
            "hears", sa.Text(), comment="JSON: processes that it hears by service and kind, if it watches over them"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column(
        "incident", sa.Column("topic", sa.String(), comment="message type that it is about, if it is about one")
    )
    op.add_column("incident", sa.Column("told_at", sa.Double(), comment="when INCIDENT_WEBHOOK took it"))
    untold = sa.text("told_at IS NULL OR closed_at > told_at")
    op.create_index("incident_untold", "incident", ["at"], postgresql_where=untold, sqlite_where=untold)
