"""The branches of a saga where they are kept: in rows of their own, which change under the lock of the saga's row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.saga.branches import Branch, Branches
from pulsaga.saga.log import Progress
from pulsaga.saga.snapshots import load_branch, load_progress, snapshot_of_branch
from pulsaga.saga.tables import saga_branch, saga_branch_archive


def branch_id(saga_id: str, path: str) -> str:
    """Return the key of a branch's row."""
    return f"{saga_id}/{path}"


@dataclass(frozen=True)
class InTransaction:
    """Branches as the message in hand sees them."""

    uow: UnitOfWork
    saga_id: str

    def one(self, path: str) -> Branch | None:
        """Return a branch."""
        key = branch_id(self.saga_id, path)
        self.uow.load([(saga_branch, key)])
        row = self.uow.get(saga_branch, key)
        return load_branch(row) if row else None

    def all(self) -> Mapping[str, Branch]:
        """Return every branch."""
        rows = self.uow.rows_with(saga_branch, saga_branch.c.saga_id, self.saga_id)
        return {row["path"]: load_branch(row) for row in rows}


def read_progress(connection: Connection, row: Row) -> Progress:
    """Read where a saga stands, with all its branches, from the archive where it was moved there."""
    progress = load_progress(row)
    if not progress.forks:
        return progress
    found = dict[str, Branch]()
    for table in (saga_branch, saga_branch_archive):
        query = select(table).where(table.c.saga_id == row["id"]).order_by(table.c.id)
        found |= {kept["path"]: load_branch(dict(kept)) for kept in connection.execute(query).mappings()}
    return progress._replace(branches=Branches(found))


def row_of_branch(
    progress: Progress, path: str, target: str | None, asked_at: float | None, resend_at: float | None
) -> Row:
    """Return the row of a branch."""
    branch = progress.branches[path]
    steps = branch.steps.values()
    return {
        "id": branch_id(progress.saga_id, path),
        "saga_id": progress.saga_id,
        "path": path,
        "command_id": _newest(step.command_id for step in steps),
        "undo_id": _newest(step.undo_id for step in steps),
        "target": target,
        "asked_at": asked_at,
        "resend_at": resend_at,
        "wake_at": branch.wake_at,
        "state": snapshot_of_branch(branch),
    }


def _newest(ids: Any) -> str | None:
    """Return the newest of the ids that steps have: they are UUIDv7, and tell their age."""
    return max(filter(None, ids), default=None)
