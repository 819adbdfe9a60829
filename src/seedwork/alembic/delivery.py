"""Create the delivery tables of a new write database, as of the first version; later changes are migrations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pulsaga.delivery.forgetting import create_partitions
from pulsaga.delivery.tables import Id


def create_delivery_tables() -> None:
    """Create inbox, event, outbox, failure, dead_letter, incident and audit."""
    _create_audit_table()
    op.create_table(
        "dead_letter",
        sa.Column(
            "id",
            sa.String(),
            nullable=False,
            comment="a message that is replayed may die again: an open letter at most",
        ),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("delivery", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("saga_id", sa.String(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=True, comment="replayed, discarded or superseded; null is open"),
        sa.Column("ended_at", sa.Double(), nullable=True, comment="when the outcome was decided"),
        sa.PrimaryKeyConstraint("id", "at"),
    )
    _create_partial_index("dead_letter_open", "dead_letter", ["id"], "outcome IS NULL", unique=True)
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
        sa.Column("id", Id, nullable=False),
        sa.Column("consumer", sa.String(), nullable=False, comment="last in the key: it is the same in every row here"),
        sa.Column(
            "hash", sa.LargeBinary(), nullable=True, comment="of the body; null is a tombstone that refuses any body"
        ),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", "consumer"),
        postgresql_partition_by="RANGE (id)",
    )
    create_partitions(op.get_bind())
    op.create_table(
        "incident",
        sa.Column("id", Id, nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="what an operator must look at"),
        sa.Column("subject", sa.String(), nullable=False, comment="saga id or message id"),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column(
            "closed_at",
            sa.Double(),
            nullable=True,
            comment="when its dead letter or saga was dealt with; null is open",
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    _create_partial_index("incident_open", "incident", ["subject", "kind"], "closed_at IS NULL", unique=True)
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


def _create_audit_table() -> None:
    op.create_table(
        "audit",
        sa.Column("id", Id, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column(
            "action",
            sa.String(),
            nullable=False,
            comment="what an operator did, or wanted while others have to agree",
        ),
        sa.Column("subject", sa.String(), nullable=False, comment="message id or saga id"),
        sa.Column("detail", sa.Text(), nullable=False, comment="JSON: what the action was given and what it changed"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("audit_subject", "audit", ["subject"])


def _create_partial_index(name: str, table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, postgresql_where=where, sqlite_where=where)


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
