"""Say in the comments of guesses what the framework says: they are of names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    kind = "its kind, and an HMAC of a name, of who asks from where, or of both"
    whose = "HMAC of the name, where the budget is that of one source with one user"
    with op.batch_alter_table("guess_budget", schema=None) as batch_op:
        batch_op.alter_column("key", existing_type=sa.String(), comment=kind)
        batch_op.alter_column("of_user", existing_type=sa.String(), comment=whose)
