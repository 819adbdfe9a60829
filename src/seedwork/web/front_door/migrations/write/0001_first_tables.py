"""Create the first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pulsaga.delivery.tables import Id

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "acceptance",
        sa.Column("id", Id, nullable=False, comment="command id and saga id"),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False, comment="who asked for it"),
        sa.Column("idempotency_key", sa.String(), nullable=True, comment="null once it is forgotten"),
        sa.Column("body_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("actor", "idempotency_key", name="acceptance_once_per_key"),
    )
    op.create_table(
        "api_key",
        sa.Column("id", Id, nullable=False),
        sa.Column("subject", sa.String(), nullable=False, comment="in whose name it asks"),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the key, which nobody keeps"),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True, comment="null while it is good"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
    )
    with op.batch_alter_table("acceptance", schema=None) as batch_op:
        batch_op.create_index(
            "acceptance_keyed",
            ["id", "idempotency_key"],
            unique=False,
            postgresql_where=sa.text("idempotency_key IS NOT NULL"),
            sqlite_where=sa.text("idempotency_key IS NOT NULL"),
        )
    op.create_table(
        "cancellation",
        sa.Column("id", Id, nullable=False, comment="of the command that is to be cancelled"),
        sa.Column("command_id", Id, nullable=False, comment="of the CancelSaga that says so"),
        sa.Column("actor", sa.String(), nullable=False, comment="who asked for it"),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "webhook",
        sa.Column("id", Id, nullable=False, comment="of the command whose end is told"),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False, comment="whose secret signs it"),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("status", sa.String(), nullable=False, comment="waiting, delivered or dead"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claim", Id, nullable=True, comment="token that a sender must still hold when it reports"),
        sa.Column("due_at", sa.Double(), nullable=True, comment="null once it was delivered or given up"),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("webhook", schema=None) as batch_op:
        batch_op.create_index(
            "webhook_due",
            ["due_at"],
            unique=False,
            postgresql_where=sa.text("due_at IS NOT NULL"),
            sqlite_where=sa.text("due_at IS NOT NULL"),
        )
