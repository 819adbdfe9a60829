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
        "saga",
        sa.Column("id", Id, nullable=False),
        sa.Column(
            "revision", sa.Integer(), nullable=False, comment="number of writes; an update says which one it saw"
        ),
        sa.Column("workflow", sa.String(), nullable=False, comment="name@version"),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False, comment="number of moves"),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False, comment="JSON of Progress"),
        sa.Column("context", sa.Text(), nullable=False, comment="JSON of Context: what later messages inherit"),
        sa.Column("target", sa.String(), nullable=True, comment="service whose answer is awaited"),
        sa.Column("resend_at", sa.Double(), nullable=True, comment="when the outstanding command may be sent again"),
        sa.Column("wake_at", sa.Double(), nullable=True, comment="deadline of the outstanding command"),
        sa.Column("moved_at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "(status IN ('RUNNING', 'COMPENSATING')) = (wake_at IS NOT NULL)", name="saga_never_waits_for_ever"
        ),
        sa.CheckConstraint(
            "status IN ('RUNNING', 'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'SUSPENDED')",
            name="saga_status_is_known",
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("saga", schema=None) as batch_op:
        batch_op.create_index(
            "saga_resend",
            ["target", "resend_at"],
            unique=False,
            postgresql_where=sa.text("resend_at IS NOT NULL"),
            sqlite_where=sa.text("resend_at IS NOT NULL"),
        )
        batch_op.create_index(
            "saga_wake",
            ["wake_at"],
            unique=False,
            postgresql_where=sa.text("wake_at IS NOT NULL"),
            sqlite_where=sa.text("wake_at IS NOT NULL"),
        )

    op.create_table(
        "target",
        sa.Column("name", sa.String(), nullable=False, comment="a service that commands are sent to"),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column(
            "probe_at", sa.Double(), nullable=False, comment="before this time a silent service gets no further probe"
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    _forbid_leaving_the_end()
    _create_archive()


def _create_archive() -> None:
    op.create_table(
        "saga_archive",
        sa.Column("id", Id, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("workflow", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("target", sa.String(), nullable=True),
        sa.Column("resend_at", sa.Double(), nullable=True),
        sa.Column("wake_at", sa.Double(), nullable=True),
        sa.Column("moved_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "event_archive",
        sa.Column("aggregate", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("answers", Id, nullable=True),
        sa.Column("wire", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("aggregate", "version"),
    )


def _forbid_leaving_the_end() -> None:
    """A completed or compensated saga stays so, whoever writes."""
    leaving = "OLD.status IN ('COMPLETED', 'COMPENSATED') AND NEW.status <> OLD.status"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER saga_end_is_final BEFORE UPDATE ON saga WHEN {leaving} "
            "BEGIN SELECT RAISE(ABORT, 'a saga that has ended does not move'); END"
        )
        return
    op.execute(
        "CREATE FUNCTION saga_end_is_final() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'a saga that has ended does not move' USING ERRCODE = 'check_violation'; END $$"
    )
    op.execute(
        "CREATE TRIGGER saga_end_is_final BEFORE UPDATE ON saga FOR EACH ROW "
        f"WHEN ({leaving}) EXECUTE FUNCTION saga_end_is_final()"
    )
