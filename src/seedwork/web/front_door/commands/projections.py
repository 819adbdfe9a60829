"""Project what the coordinator tells of sagas into the front door's read database, and wake whoever waits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Table

from pulsaga.delivery.messages import AnyMessage, CommandFailed, CommandRefused, Message, id_time, owned, unix_seconds
from pulsaga.delivery.projection import Changed, Projection
from pulsaga.delivery.transaction.rows import Row
from pulsaga.running.runtime import Runtime
from pulsaga.saga.kept import branch_id
from pulsaga.saga.messages import SagaMoved
from pulsaga.saga.snapshots import read_branches, read_steps, read_tokens
from pulsaga.web.front_door.commands.waiting import changed_ids_body, topic_of
from pulsaga.web.front_door.tables import awaited, command, command_move, refused_cancel, signal_token

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
UNSTARTED = {CommandFailed: ("suspended", 0), CommandRefused: ("refused", 1)}
"""How a command without a saga is shown, and under which version: an operator may still act on a failure."""


def project_command(message: Message[SagaMoved]) -> Iterable[tuple[Table, Row]]:
    """Show where a command stands by the newest move of its saga, and keep every move."""
    moved, status = message.body, STATUS[message.body.status]
    told = status in WITH_REASON
    row = {
        "id": moved.saga_id,
        "version": message.version,
        "type": moved.workflow.partition("@")[0],
        "subject": moved.subject,
        "actor": message.context.actor,
        "status": status,
        "reason_code": moved.reason_code if told else "",
        "reason_detail": moved.reason_detail if told else "",
        "cancellable": moved.cancellable or moved.reason_code == CANCELLED,  # to ask twice is no mistake
        "created_at": id_time(moved.saga_id).timestamp(),  # as the acceptance says it
        "updated_at": moved.moved_at,
    }
    return (*_with_move(row), *_awaited(moved, message.version))


def _awaited(moved: SagaMoved, version: int | None) -> Iterator[tuple[Table, Row]]:
    """Show which signals a saga waits for, which it has, and who may send them by a token."""
    for digest, signal in read_tokens(moved.steps).items():
        yield signal_token, {"id": digest, "saga_id": moved.saga_id, "signal": signal, "version": version}
    if '"signal"' not in moved.steps:  # few sagas wait for one
        return
    goes_on = moved.status in ("RUNNING", "SUSPENDED")
    told = [read_steps(moved.steps), *read_branches(moved.steps).values()]
    for path, step in ((path, step) for steps in told for path, step in steps.items() if step.signal):
        state = "taken" if step.status == "done" else "open" if goes_on else "over"
        named = {"id": branch_id(moved.saga_id, path), "saga_id": moved.saga_id, "version": version}
        yield awaited, {**named, "signal": step.signal, "state": state}


def _with_move(row: Row) -> Iterable[tuple[Table, Row]]:
    return (command, row), (command_move, {column.name: row[column.name] for column in command_move.columns})


def project_unstarted(message: Message[Any]) -> Iterable[tuple[Table, Row]]:
    """Show a command that ended, or died, before a saga existed; note a cancel that came to nothing."""
    if not _is_of_start(message):  # a CancelSaga that came too late changes nothing, and may be said again
        return ((refused_cancel, {"id": message.command_id, "version": 1}),) if message.command_id else ()
    body, at = message.body, unix_seconds(message.time)
    status, version = next(shown for kind, shown in UNSTARTED.items() if isinstance(body, kind))
    is_cancelled = body.code == WITHDRAWN
    row = {
        "id": message.command_id,
        "version": version,
        "type": body.command.partition(".")[2],
        "subject": message.subject,
        "actor": message.context.actor,
        "status": status,
        "reason_code": CANCELLED if is_cancelled else body.code,
        "reason_detail": body.detail,
        "cancellable": is_cancelled,
        "created_at": at,
        "updated_at": at,
    }
    return _with_move(row)


def tell_waiters(runtime: Runtime) -> Changed:
    """Broadcast the ids of a committed batch, changed or not, and which of them ended, to every web process."""

    topic = topic_of(runtime.service)

    def tell(messages: Sequence[AnyMessage]) -> None:
        ids = {message.saga_id for message in messages}
        ended = {message.saga_id for message in messages if _is_end(message)}
        runtime.broker.broadcast(topic, changed_ids_body(ids, ended))

    return tell


def _is_end(message: AnyMessage) -> bool:
    """Whether nothing more is done for a command, unless an operator acts."""
    if isinstance(message.body, SagaMoved):
        return STATUS[message.body.status] != "running"
    return isinstance(message.body, CommandRefused | CommandFailed) and _is_of_start(message)


def _is_of_start(message: AnyMessage) -> bool:
    """Whether a refusal or failure answers the command that begins the saga."""
    return message.command_id == message.saga_id


def projections(coordinator: str, module: str) -> list[Projection[Any]]:
    """Return what projects a coordinator's events: each move, and what it refused or buried before a saga existed.

    `module` declares a message of the coordinator: the schemas of these lie beside.
    """
    return [
        Projection(owned(SagaMoved, coordinator, module), project_command),
        Projection(owned(CommandRefused, coordinator, module), project_unstarted),
        Projection(owned(CommandFailed, coordinator, module), project_unstarted),
    ]
