"""Find suspended sagas among a million."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = sa.text("status = 'SUSPENDED'")
    op.create_index("saga_suspended", "saga", ["moved_at"], postgresql_where=where, sqlite_where=where)
