"""Project the moves of sagas into the coordinator's read database."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Table

from pulsaga.delivery.messages import Message
from pulsaga.delivery.transaction.rows import Row
from pulsaga.saga.kept import branch_id
from pulsaga.saga.messages import SagaMoved
from pulsaga.saga.snapshots import entries_of, read_branches, write_entries, write_steps
from pulsaga.saga.tables import saga_branch_view, saga_move, saga_view


def project_saga(message: Message[SagaMoved]) -> Iterable[tuple[Table, Row]]:
    """Show a saga's newest state and keep every move; what the entries learned stays in the log."""
    moved = message.body
    shown = ("workflow", "subject", "status", "reason_code", "reason_detail", "started_at", "moved_at")
    view = {name: getattr(moved, name) for name in shown}
    entries = [entry._replace(data={}) for entry in entries_of(moved)]
    key = {"id": moved.saga_id, "version": message.version}
    yield saga_view, {**key, **view, "actor": message.context.actor, "steps": moved.steps}
    yield saga_move, {**key, "entries": write_entries(entries)}
    for path, steps in read_branches(moved.steps).items():
        of_branch = {"id": branch_id(moved.saga_id, path), "saga_id": moved.saga_id, "version": message.version}
        yield saga_branch_view, {**of_branch, "steps": write_steps(steps)}
