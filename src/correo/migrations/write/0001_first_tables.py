"""Create the first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pulsaga import Id

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mail",
        sa.Column("id", Id, nullable=False, comment="command id of the SendPasswordMail"),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("recipient", sa.String(), nullable=False),
        sa.Column(
            "sealed_token",
            sa.Text(),
            nullable=False,
            comment="of the link, under LINK_KEY; the mail's text is never stored",
        ),
        sa.Column("context", sa.Text(), nullable=False, comment="JSON of Context, for the reply"),
        sa.Column("status", sa.String(), nullable=False, comment="waiting, sent or refused"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column(
            "claim",
            Id,
            nullable=True,
            comment="token that a sender must still hold when it reports",
        ),
        sa.Column("due_at", sa.Double(), nullable=True, comment="null once the mail has ended"),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("mail", schema=None) as batch_op:
        batch_op.create_index(
            "mail_due",
            ["due_at"],
            unique=False,
            postgresql_where=sa.text("due_at IS NOT NULL"),
            sqlite_where=sa.text("due_at IS NOT NULL"),
        )
