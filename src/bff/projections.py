"""Project what the other services tell into the front door's read database, and wake whoever waits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Table

from bff.tables import command, command_move, password, refused_cancel
from bff.waiting import TOPIC, changed_ids_body
from generador.messages import PasswordExpired, PasswordGenerated, PasswordRevealed, PasswordRevoked, PasswordRotated
from protools_saga.messages import SagaFailed, SagaMoved, SagaRefused
from pulsaga.delivery.messages import Message, id_time, unix_seconds
from pulsaga.delivery.projection import Changed
from pulsaga.delivery.rows import Row
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
UNSTARTED = {SagaFailed: ("suspended", 0), SagaRefused: ("refused", 1)}
"""How a command without a saga is shown, and under which version: an operator may still act on a failure."""


def project_command(message: Message) -> Iterable[tuple[Table, Row]]:
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


def project_unstarted(message: Message) -> Iterable[tuple[Table, Row]]:
    """Show a command that ended, or died, before a saga existed; note a cancel that came to nothing."""
    if not _is_of_start(message):  # a CancelSaga that came too late changes nothing, and may be said again
        return ((refused_cancel, {"id": message.command_id, "version": 1}),) if message.command_id else ()
    body, at = message.body, unix_seconds(message.time)
    status, version = UNSTARTED[type(body)]
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


def project_password(message: Message) -> Iterable[tuple[Table, Row]]:
    """Show a password's newest state, never a secret."""
    state = message.body
    row = {name: getattr(state, name) for name in ("username", "status", "issued_at", "changed_at")}
    return ((password, {**row, "actor": message.context.actor, "version": message.version}),)


def tell_waiters(runtime: Runtime) -> Changed:
    """Broadcast the ids of a committed batch, changed or not, and which of them ended, to every web process."""

    def tell(messages: Sequence[Message]) -> None:
        ids = {message.saga_id for message in messages}
        ended = {message.saga_id for message in messages if _is_end(message)}
        runtime.broker.broadcast(TOPIC, changed_ids_body(ids, ended))

    return tell


def _is_end(message: Message) -> bool:
    """Whether nothing more is done for a command, unless an operator acts."""
    if isinstance(message.body, SagaMoved):
        return STATUS[message.body.status] != "running"
    return isinstance(message.body, SagaRefused | SagaFailed) and _is_of_start(message)


def _is_of_start(message: Message) -> bool:
    """Whether a refusal or failure answers the command that begins the saga."""
    return message.command_id == message.saga_id


PROJECTIONS = {
    SagaMoved: project_command,
    SagaRefused: project_unstarted,
    SagaFailed: project_unstarted,
    PasswordGenerated: project_password,
    PasswordRevoked: project_password,
    PasswordRevealed: project_password,
    PasswordExpired: project_password,
    PasswordRotated: project_password,
}
CHANGED = tell_waiters
