"""Know since when a command is unanswered, how long answers usually take, and which processes are to run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ASKED = "when the outstanding command was first sent; null for what none is known of"
USUAL = "seconds that its answers usually take; null while none is known"


def upgrade() -> None:
    for table, comment in (
        ("saga", ASKED),
        ("saga_branch", ASKED),
        ("saga_archive", None),
        ("saga_branch_archive", None),
    ):
        op.add_column(table, sa.Column("asked_at", sa.Double(), comment=comment))
    op.add_column(
        "target",
        sa.Column("usual_s", sa.Double(), comment="seconds that its answers usually take; null while none is known"),
    )
    op.add_column("target", sa.Column("spread_s", sa.Double(), comment="mean deviation of these"))
    op.create_table(
        "expected",
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False, comment="processes that are to run; fewer are an incident"),
        sa.Column("at", sa.Double(), nullable=False, comment="since when"),
        sa.PrimaryKeyConstraint("service", "kind"),
    )
    where = sa.text("status = 'SUSPENDED'")
    op.create_index("saga_suspended", "saga", ["moved_at"], postgresql_where=where, sqlite_where=where)
