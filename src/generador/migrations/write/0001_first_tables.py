"""Create the first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from pulsaga import Id

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _secret() -> list[sa.Column[Any]]:
    return [
        sa.Column("command_id", Id, nullable=False, comment="the command that made it"),
        sa.Column("saga_id", Id, nullable=False),
        sa.Column(
            "actor",
            sa.String(),
            nullable=True,
            comment="who asked for it; what is told of it later carries the name on",
        ),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=True, comment="SHA-256 of the link's token"),
        sa.Column(
            "sealed_key",
            sa.LargeBinary(),
            nullable=True,
            comment="the secret's own key under VAULT_KEY; null once destroyed",
        ),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column(
            "verifier",
            sa.LargeBinary(),
            nullable=True,
            comment="SHA-256 of the password; null once it is not valid any more",
        ),
        sa.Column("issued_at", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "password",
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="goes on counting when a name gets a next password"),
        *_secret(),
        sa.PrimaryKeyConstraint("username"),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_table(
        "rotation",
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        *_secret(),
        sa.PrimaryKeyConstraint("username"),
        sa.UniqueConstraint("token_hash"),
        comment="the secret beside the password: while a rotation runs the next one, after it the one that went",
    )
    with op.batch_alter_table("password", schema=None) as batch_op:
        batch_op.create_index(
            "password_unrevealed",
            ["issued_at"],
            unique=False,
            postgresql_where=sa.text("sealed_key IS NOT NULL"),
            sqlite_where=sa.text("sealed_key IS NOT NULL"),
        )
    op.create_table(
        "failed_attempt",
        sa.Column("key", sa.String(), nullable=False, comment="HMAC of the username or the address, in hex"),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("again_at", sa.Double(), nullable=False, comment="before it the next attempt is not looked at"),
        sa.PrimaryKeyConstraint("key"),
    )
    with op.batch_alter_table("failed_attempt", schema=None) as batch_op:
        batch_op.create_index("failed_attempt_again", ["again_at"], unique=False)
    op.create_table(
        "key_check",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "sealed", sa.LargeBinary(), nullable=False, comment="the name, sealed: only the key of that name opens it"
        ),
        sa.PrimaryKeyConstraint("name"),
    )
