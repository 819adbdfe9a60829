"""Create the delivery tables of a new write database, as of the first version; later changes are migrations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from seedwork.delivery import Id


def create_delivery_tables() -> None:
    """Create inbox, event, outbox, failure, dead_letter and incident."""
    op.create_table(
        "dead_letter",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("delivery", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("saga_id", sa.String(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "event",
        sa.Column("aggregate", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column(
            "answers",
            Id,
            nullable=True,
            comment="the command whose reply this is; published again on redelivery",
        ),
        sa.Column("wire", sa.LargeBinary(), nullable=False, comment="packed wire: envelope and full state in Avro"),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("aggregate", "version"),
        sa.UniqueConstraint("answers"),
    )
    create_failure_table()
    op.create_table(
        "inbox",
        sa.Column("consumer", sa.String(), nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column(
            "hash", sa.LargeBinary(), nullable=True, comment="of the body; null is a tombstone that refuses any body"
        ),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "id"),
    )
    op.create_table(
        "incident",
        sa.Column("id", Id, nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="what an operator must look at"),
        sa.Column("subject", sa.String(), nullable=False, comment="saga id or message id"),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", Id, nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("wire", sa.LargeBinary(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False, comment="the sweep publishes what is still here then"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index("outbox_due", ["due_at"], unique=False)


def create_failure_table() -> None:
    """Create the table of messages that could not be handled; a read database has it too."""
    op.create_table(
        "failure",
        sa.Column("id", sa.String(), nullable=False, comment="ce_id, or the hash of bytes that have none"),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column(
            "delivery", sa.LargeBinary(), nullable=False, comment="packed as received, with the writer's schema version"
        ),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("failure", schema=None) as batch_op:
        batch_op.create_index("failure_due", ["due_at"], unique=False)
