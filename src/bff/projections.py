"""Project what the other services tell into the front door's read database, and wake whoever waits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Table

from bff.tables import command, command_move, password, refused_cancel
from bff.waiting import TOPIC, changed_ids_body
from generador.messages import (
    PasswordExpired,
    PasswordGenerated,
    PasswordRevealed,
    PasswordRevoked,
    PasswordRotated,
    PasswordState,
)
from protools_saga.messages import IssuePassword
from pulsaga.delivery.messages import AnyMessage, CommandFailed, CommandRefused, Message, id_time, owned, unix_seconds
from pulsaga.delivery.projection import Changed, Projection
from pulsaga.delivery.rows import Row
from pulsaga.saga.messages import SagaMoved
from pulsaga.system import Runtime

STATUS = {
    "RUNNING": "running",
    "COMPENSATING": "running",
    "COMPLETED": "completed",
    "COMPENSATED": "refused",
    "SUSPENDED": "suspended",
}
CANCELLED = "cancelled"
WITHDRAWN = "withdrawn"
"""Code of what a CancelSaga overtook: it was refused by the tombstone that waited for it."""
WITH_REASON = ("refused", "suspended")
UNSTARTED = {"command-failed": ("suspended", 0), "command-refused": ("refused", 1)}
"""How a command without a saga is shown, and under which version: an operator may still act on a failure."""


def project_command(message: Message[SagaMoved]) -> Iterable[tuple[Table, Row]]:
    """Show where a command stands by the newest move of its saga, and keep every move."""
    moved, status = message.body, STATUS[message.body.status]
    told = status in WITH_REASON
    row = {
        "id": moved.saga_id,
        "version": message.version,
        "type": moved.workflow.partition("@")[0],
        "username": moved.subject,
        "actor": message.context.actor,
        "status": status,
        "reason_code": moved.reason_code if told else "",
        "reason_detail": moved.reason_detail if told else "",
        "cancellable": moved.cancellable or moved.reason_code == CANCELLED,  # to ask twice is no mistake
        "created_at": id_time(moved.saga_id).timestamp(),  # as the acceptance says it
        "updated_at": moved.moved_at,
    }
    return _with_move(row)


def _with_move(row: Row) -> Iterable[tuple[Table, Row]]:
    return (command, row), (command_move, {column.name: row[column.name] for column in command_move.columns})


def project_unstarted(message: Message[Any]) -> Iterable[tuple[Table, Row]]:
    """Show a command that ended, or died, before a saga existed; note a cancel that came to nothing."""
    if not _is_of_start(message):  # a CancelSaga that came too late changes nothing, and may be said again
        return ((refused_cancel, {"id": message.command_id, "version": 1}),) if message.command_id else ()
    body, at = message.body, unix_seconds(message.time)
    status, version = UNSTARTED[message.contract.name.partition(".")[2]]
    is_cancelled = body.code == WITHDRAWN
    row = {
        "id": message.command_id,
        "version": version,
        "type": body.command.partition(".")[2],
        "username": message.subject,
        "actor": message.context.actor,
        "status": status,
        "reason_code": CANCELLED if is_cancelled else body.code,
        "reason_detail": body.detail,
        "cancellable": is_cancelled,
        "created_at": at,
        "updated_at": at,
    }
    return _with_move(row)


def project_password(message: Message[PasswordState]) -> Iterable[tuple[Table, Row]]:
    """Show a password's newest state, never a secret."""
    state = message.body
    row = {name: getattr(state, name) for name in ("username", "status", "issued_at", "changed_at")}
    return ((password, {**row, "actor": message.context.actor, "version": message.version}),)


def tell_waiters(runtime: Runtime) -> Changed:
    """Broadcast the ids of a committed batch, changed or not, and which of them ended, to every web process."""

    def tell(messages: Sequence[AnyMessage]) -> None:
        ids = {message.saga_id for message in messages}
        ended = {message.saga_id for message in messages if _is_end(message)}
        runtime.broker.broadcast(TOPIC, changed_ids_body(ids, ended))

    return tell


def _is_end(message: AnyMessage) -> bool:
    """Whether nothing more is done for a command, unless an operator acts."""
    if isinstance(message.body, SagaMoved):
        return STATUS[message.body.status] != "running"
    return (
        isinstance(message.body, CommandRefused | CommandFailed)
        and message.contract.owner == COORDINATOR
        and _is_of_start(message)
    )


def _is_of_start(message: AnyMessage) -> bool:
    """Whether a refusal or failure answers the command that begins the saga."""
    return message.command_id == message.saga_id


COORDINATOR = "protools_saga"
MOVED = owned(SagaMoved, COORDINATOR, IssuePassword.__module__)
REFUSED, FAILED = (owned(answer, COORDINATOR, IssuePassword.__module__) for answer in (CommandRefused, CommandFailed))
PASSWORDS = (PasswordGenerated, PasswordRevoked, PasswordRevealed, PasswordExpired, PasswordRotated)
PROJECTIONS: list[Projection[Any]] = [
    Projection(MOVED, project_command),
    Projection(REFUSED, project_unstarted),
    Projection(FAILED, project_unstarted),
    *(Projection(event, project_password) for event in PASSWORDS),
]
