"""Create the first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "guess_budget",
        sa.Column(
            "key",
            sa.String(),
            nullable=False,
            comment="its kind, and an HMAC of a name, of who asks from where, or of both",
        ),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column(
            "of_user",
            sa.String(),
            nullable=True,
            comment="HMAC of the name, where the budget is that of one source with one user",
        ),
        sa.Column("full_at", sa.Double(), nullable=False, comment="when all wrong guesses are forgotten"),
        sa.Column(
            "known_until", sa.Double(), nullable=False, comment="of a source that gave the right password; else 0"
        ),
        sa.PrimaryKeyConstraint("key"),
    )
    with op.batch_alter_table("guess_budget", schema=None) as batch_op:
        batch_op.create_index("guess_budget_known", ["of_user", "known_until"], unique=False)
        batch_op.create_index("guess_budget_over", ["known_until", "full_at"], unique=False)

    op.create_table(
        "issued",
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("saga_id", sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"), nullable=False),
        sa.Column("email", sa.String(), nullable=False, comment="where the link of the password went"),
        sa.Column("sent_at", sa.Double(), nullable=False),
        sa.Column("used", sa.Boolean(), nullable=False, comment="it is good for one log-in"),
        sa.PrimaryKeyConstraint("username"),
        info={"subject": "username"},
    )
    op.create_table(
        "proposal",
        sa.Column(
            "id",
            sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"),
            nullable=False,
            comment="of the saga",
        ),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"), nullable=False),
        sa.Column("email", sa.String(), nullable=False, comment="what was asked for, whatever came of it"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("proposal", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_proposal_user_id"), ["user_id"], unique=False)

    op.create_table(
        "reset",
        sa.Column("id", sa.String(), nullable=False, comment="SHA-256 of the link's token, in hex"),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True, comment="null once it was used"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("reset", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_reset_user_id"), ["user_id"], unique=False)
        batch_op.create_index(
            "reset_open",
            ["expires_at"],
            unique=False,
            postgresql_where=sa.text("expires_at IS NOT NULL"),
            sqlite_where=sa.text("expires_at IS NOT NULL"),
        )

    op.create_table(
        "usuario",
        sa.Column("id", sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("email_key", sa.String(), nullable=False, comment="the address in the form that is told apart"),
        sa.Column("first_name", sa.String(), nullable=False),
        sa.Column("last_name", sa.String(), nullable=False),
        sa.Column("phone", sa.String(), nullable=False),
        sa.Column("admin", sa.Boolean(), nullable=False, comment="the mark that an operator sets"),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True, comment="argon2id; null where none was chosen"),
        sa.Column(
            "sessions_not_before",
            sa.Double(),
            nullable=False,
            comment="tokens that were issued before are good no more",
        ),
        sa.Column("proposed_email", sa.String(), nullable=True, comment="waits to be confirmed"),
        sa.Column(
            "proposed_by",
            sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"),
            nullable=True,
            comment="the saga whose proposal waits, or was the last to",
        ),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email_key"),
        sa.UniqueConstraint("username"),
        info={"subject": "username"},
    )
    op.create_table(
        "sesion",
        sa.Column(
            "jti",
            sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"),
            nullable=False,
            comment="of its token",
        ),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(length=36).with_variant(sa.Uuid(as_uuid=False), "postgresql"), nullable=False),
        sa.Column("issued_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column(
            "revoked_at",
            sa.Double(),
            nullable=True,
            comment="from when on its token is not good any more; null while it is",
        ),
        sa.PrimaryKeyConstraint("jti"),
    )
    with op.batch_alter_table("sesion", schema=None) as batch_op:
        batch_op.create_index("sesion_over", ["expires_at"], unique=False)
