"""Tell mails of several kinds apart; those of before reveal passwords."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pulsaga import Id

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    asked_by = "id of the command that asked for it, or of the event that did"
    sealed = "of the link, if it has one; the mail's text is never stored"
    with op.batch_alter_table("mail", schema=None) as batch_op:
        batch_op.alter_column("id", existing_type=Id, comment=asked_by)
        batch_op.alter_column("sealed_token", existing_type=sa.Text(), comment=sealed)
        batch_op.add_column(sa.Column("kind", sa.String(), server_default="password", nullable=False))
