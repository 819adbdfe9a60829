"""Give the branches of sagas rows of their own, and note which saga has started which."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pulsaga.delivery.tables import Id

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WAITING = {
    "saga_branch_wake": ["saga_id", "wake_at"],
    "saga_branch_resend": ["target", "resend_at"],
    "saga_branch_command": ["command_id"],
    "saga_branch_undo": ["undo_id"],
}


def upgrade() -> None:
    op.create_table(
        "saga_branch",
        sa.Column("id", sa.String(), nullable=False, comment="id of the saga, and the path"),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("saga_id", Id, nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("command_id", Id, nullable=True, comment="newest command of its steps"),
        sa.Column("undo_id", Id, nullable=True, comment="newest command that undoes one of them"),
        sa.Column("target", sa.String(), nullable=True, comment="service whose answer is awaited"),
        sa.Column("resend_at", sa.Double(), nullable=True, comment="when the outstanding command may be sent again"),
        sa.Column(
            "wake_at", sa.Double(), nullable=True, comment="deadline of the outstanding command, or end of a rest"
        ),
        sa.Column("state", sa.Text(), nullable=False, comment="JSON of Branch"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("saga_branch_saga", "saga_branch", ["saga_id"])
    for name, columns in WAITING.items():
        there = sa.text(f"{columns[-1]} IS NOT NULL")
        op.create_index(name, "saga_branch", columns, postgresql_where=there, sqlite_where=there)
    op.create_table(
        "saga_child",
        sa.Column("id", Id, nullable=False, comment="of a saga that another one has started"),
        sa.Column("parent_id", Id, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "saga_branch_archive",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("saga_id", Id, nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("command_id", Id, nullable=True),
        sa.Column("undo_id", Id, nullable=True),
        sa.Column("target", sa.String(), nullable=True),
        sa.Column("resend_at", sa.Double(), nullable=True),
        sa.Column("wake_at", sa.Double(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
