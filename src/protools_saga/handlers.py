"""Drive sagas: start them by commands, move them on by replies, timers and silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import orjson
import structlog
from sqlalchemy import Column, Table, select

from correo.messages import CorreoFailed, CorreoRefused, PasswordMailSent
from generador import messages as generador
from protools_saga.issue_password import ISSUE_PASSWORD
from protools_saga.messages import CancelSaga, IssuePassword, RotatePassword, SagaMoved
from protools_saga.rotate_password import ROTATE_PASSWORD
from protools_saga.tables import saga, target
from pulsaga.delivery import loop
from pulsaga.delivery.blame import verdict
from pulsaga.delivery.inbox import Handler, Received, close_incidents, incident_row, said
from pulsaga.delivery.loop import Duty
from pulsaga.delivery.messages import Context, Message, new_id
from pulsaga.delivery.rows import Row
from pulsaga.delivery.tables import incident, pack_context, unpack_context
from pulsaga.delivery.unit_of_work import UnitOfWork
from pulsaga.errors import DomainError
from pulsaga.saga.definition import Saga
from pulsaga.saga.engine import Move, advance, is_cancellable, start
from pulsaga.saga.log import (
    Cancelled,
    Due,
    Entry,
    Failed,
    Happening,
    Operator,
    Progress,
    Refused,
    Replied,
    Silent,
    StepState,
)
from pulsaga.system import Runtime

log = structlog.get_logger()

WORKFLOWS: dict[type, Saga] = {IssuePassword: ISSUE_PASSWORD, RotatePassword: ROTATE_PASSWORD}
"""Which command starts which workflow."""
DEFINITIONS: dict[str, Saga] = {workflow.key: workflow for workflow in WORKFLOWS.values()}
"""Every version that a running saga may have begun with."""
SUBJECT = "username"
"""Field of the starting command that names whom the workflow is for."""
PAGE = 500
PROBE_EVERY_S = 5.0
GROWTH = 10
LONGEST_DEADLINE_S = max(step.deadline for workflow in DEFINITIONS.values() for step in workflow.steps)
UNMOVED_S = 60.0
"""Seconds for which a saga that cannot be moved leaves the others their turn."""
LONGEST_SILENCE_S = max(UNMOVED_S, *(step.retry.seconds for flow in DEFINITIONS.values() for step in flow.steps))


def start_saga(message: Message, uow: UnitOfWork) -> None:
    """Begin the workflow that this command asks for; its id is the command's."""
    workflow = WORKFLOWS[type(message.body)]
    _save(uow, start(workflow, message.saga_id, vars(message.body), uow.now, new_id), message.follow())


def cancel_saga(message: Message, uow: UnitOfWork) -> None:
    """Give up a saga; when it has not begun yet, see to it that it does not."""
    begins = message.body.undoes
    if uow.get(saga, begins):
        _advance(uow, begins, Cancelled(message.context.actor or "nobody"), message.follow())
    elif uow.seen(begins):
        raise DomainError("no-saga", "what begins it was refused, or became a dead letter")
    else:
        uow.remember(begins, None)


def on_reply(message: Message, uow: UnitOfWork) -> None:
    """Move a saga on by a success."""
    _advance(uow, message.saga_id, Replied(message.command_id or "", message.body), message.follow())


def on_refused(message: Message, uow: UnitOfWork) -> None:
    """Move a saga on by a business no."""
    no = message.body
    _advance(uow, message.saga_id, Refused(message.command_id or "", no.code, no.detail), message.follow())


def on_failed(message: Message, uow: UnitOfWork) -> None:
    """Suspend a saga whose command became a dead letter."""
    body = message.body
    _advance(uow, message.saga_id, Failed(message.command_id or "", body.code, body.detail), message.follow())


def on_dead_reply(message: Message, uow: UnitOfWork, error: str) -> None:
    """Suspend a saga whose reply became a dead letter here."""
    uow.load([(saga, message.saga_id)])
    if uow.get(saga, message.saga_id):
        lost = Failed(message.command_id or "", "reply-failed", error, reply_lost=True)
        _advance(uow, message.saga_id, lost, message.follow())


def _advance(uow: UnitOfWork, saga_id: str, happening: Happening, context: Context) -> Progress:
    row = uow.get(saga, saga_id)
    if row is None:
        raise LookupError(f"no saga {saga_id}")
    move = next_move(row, happening, uow.now)
    if row["status"] == "SUSPENDED" and any(entry.kind in ("resumed", "compensating") for entry in move[1]):
        close_incidents(uow, "suspended", saga_id)  # the new one of a saga that is suspended again stays open
    _save(uow, move, context._replace(actor=unpack_context(row["context"]).actor))  # a reply changes no owner
    return move[0]


def next_move(row: Row, happening: Happening, now: float) -> Move:
    """Return what a happening would do to the saga of this row; raise DomainError for what an operator cannot have."""
    progress = load_progress(row)
    return advance(DEFINITIONS[progress.workflow], progress, happening, now, new_id)


def operate(uow: UnitOfWork, saga_id: str, wish: Operator) -> None:
    """Move a saga, whose row is loaded, by an operator's hand; raise DomainError for what it cannot do."""
    row = uow.get(saga, saga_id)
    assert row is not None
    _advance(uow, saga_id, wish, unpack_context(row["context"]))


def _save(uow: UnitOfWork, move: Move, context: Context) -> None:
    progress, entries, commands = move
    if not entries:
        return
    uow.put(saga, _row(progress, context))
    for command in commands:  # before the event: what is said first is published first, and the next step waits for it
        uow.send(command.body, _subject(progress), command_id=command.command_id, context=context)
    uow.record(_moved(progress, entries), progress.saga_id, progress.seq, subject=_subject(progress), context=context)
    for entry in entries:
        if entry.kind in ("suspended", "parked"):
            uow.append(incident, incident_row(entry.kind, progress.saga_id, entry.code, entry.detail, uow.now))


def load_progress(row: Row) -> Progress:
    """Read the snapshot in a saga's row."""
    values = orjson.loads(row["progress"])
    steps = tuple(StepState(**step) for step in values.pop("steps"))
    cause, reason = tuple(values.pop("cause")), tuple(values.pop("reason"))
    return Progress(**values, steps=steps, cause=cause, reason=reason)


def snapshot_of(progress: Progress) -> str:
    """Write a saga's progress as its row keeps it."""
    steps = [step._asdict() for step in progress.steps]
    return orjson.dumps({**progress._asdict(), "steps": steps}, option=orjson.OPT_SORT_KEYS).decode()


def json_of(told: Iterable[Entry] | Iterable[StepState]) -> str:
    """Write log entries or steps as a SagaMoved tells them."""
    return orjson.dumps([one._asdict() for one in told]).decode()


def _row(progress: Progress, context: Context) -> Row:
    waiting = progress.outstanding if progress.sent_at is not None else None
    resend_at = progress.sent_at + _step(progress, waiting[0]).retry.seconds if waiting and progress.sent_at else None
    return {
        "id": progress.saga_id,
        "workflow": progress.workflow,
        "status": progress.status,
        "seq": progress.seq,
        "subject": _subject(progress),
        "progress": snapshot_of(progress),
        "context": pack_context(context),
        "target": _target(progress, waiting[0]) if waiting else None,
        "resend_at": resend_at,
        "wake_at": progress.wake_at,
        "moved_at": progress.moved_at,
    }


def _step(progress: Progress, index: int) -> Any:
    return DEFINITIONS[progress.workflow].steps[index]


def _target(progress: Progress, index: int) -> str:
    state = progress.steps[index]
    return (state.undo if progress.compensating else state.command).partition(".")[0]


def _subject(progress: Progress) -> str:
    return str(progress.data[SUBJECT])


def _moved(progress: Progress, entries: Sequence[Entry]) -> SagaMoved:
    return SagaMoved(
        saga_id=progress.saga_id,
        workflow=progress.workflow,
        subject=_subject(progress),
        status=progress.status,
        reason_code=progress.reason[0],
        reason_detail=progress.reason[1],
        started_at=progress.started_at,
        moved_at=progress.moved_at,
        cancellable=is_cancellable(DEFINITIONS[progress.workflow], progress),
        steps=json_of(progress.steps),
        entries=json_of(entries),
    )


def entries_of(moved: SagaMoved) -> list[Entry]:
    """Read the log entries of a move back, for folding."""
    return [Entry(**entry) for entry in orjson.loads(moved.entries)]


def _of_saga(message: Message) -> Iterable[tuple[Table, Any]]:
    return ((saga, message.saga_id),)


def _undone_saga(message: Message) -> Iterable[tuple[Table, Any]]:
    return ((saga, message.body.undoes),)


_REPLY = Handler(on_reply, reads=_of_saga, on_dead=on_dead_reply)
_REFUSED = Handler(on_refused, reads=_of_saga, on_dead=on_dead_reply)
_FAILED = Handler(on_failed, reads=_of_saga, on_dead=on_dead_reply)

HANDLERS = {
    IssuePassword: Handler(start_saga),
    CancelSaga: Handler(cancel_saga, reads=_undone_saga),
    RotatePassword: Handler(start_saga),
    generador.PasswordGenerated: _REPLY,
    generador.PasswordRevoked: _REPLY,
    generador.NothingToRevoke: _REPLY,
    generador.SuccessorGenerated: _REPLY,
    generador.SuccessorDropped: _REPLY,
    generador.PasswordRotated: _REPLY,
    PasswordMailSent: _REPLY,
    generador.GeneradorRefused: _REFUSED,
    CorreoRefused: _REFUSED,
    generador.GeneradorFailed: _FAILED,
    CorreoFailed: _FAILED,
}


# --- timers and silence


def wake_due_sagas(runtime: Runtime) -> Duty:
    """Give the sagas whose deadline has passed their turn."""

    def work(uow: UnitOfWork) -> int:
        return len(_happen(uow, saga.c.wake_at <= uow.now, saga.c.wake_at, PAGE, Due()))

    def wake() -> None:
        with _one_by_one(runtime, saga.c.wake_at, PAGE, Due()):
            runtime.relay.run_pages(work, PAGE)

    return Duty("wake-ups", wake, due=loop.Due(saga.c.wake_at, LONGEST_DEADLINE_S))


def resend_to_silent(runtime: Runtime) -> Duty:
    """Send unanswered commands again, oldest first, within a budget per target.

    That is one probe an interval while the target is silent, else 10 % of the replies just handled; ten for one while
    nothing is answered but what this coordinator sent again.
    """
    answered: Counter[str] = Counter()
    repeated: Counter[str] = Counter()
    sent_again: set[str] = set()

    def count(batch: Sequence[Received]) -> bool:
        for reply in (r.message for r in batch if r.message and r.message.command_id):
            answered[reply.contract.owner] += 1
            repeated[reply.contract.owner] += reply.command_id in sent_again
            sent_again.discard(reply.command_id or "")
        return False

    def budget_for(name: str, uow: UnitOfWork) -> int:
        if answered[name] == repeated[name] > 0:  # nothing comes but what was sent again: the rest was lost
            return repeated[name] * GROWTH
        return answered[name] // 10 or _probe(uow, name)

    def work(uow: UnitOfWork) -> None:
        again: list[str] = []
        for name in uow.values(select(saga.c.target).where(saga.c.resend_at <= uow.now).distinct()):
            if budget := budget_for(name, uow):
                due = (saga.c.target == name) & (saga.c.resend_at <= uow.now)
                again += _happen(uow, due, saga.c.resend_at, budget, Silent())
        if again:  # those before it may be answered to another coordinator, and would be kept for ever
            sent_again.clear()
            sent_again.update(again)
        forget()

    def forget() -> None:
        answered.clear()
        repeated.clear()

    def resend() -> None:
        with _one_by_one(runtime, saga.c.resend_at, GROWTH, Silent()):
            runtime.relay.run(work)

    return Duty("re-sending", resend, woken_by=count, due=loop.Due(saga.c.resend_at, LONGEST_SILENCE_S), calm=forget)


def _probe(uow: UnitOfWork, name: str) -> int:
    """Return 1 when no coordinator has probed this target within the interval, else 0."""
    uow.load([(target, name)])
    row = uow.get(target, name)
    if row and 0 < row["probe_at"] - uow.now <= 2 * PROBE_EVERY_S:  # a clock that was put back leaves it far ahead
        return 0
    uow.put(target, {"name": name, "probe_at": uow.now + PROBE_EVERY_S})
    return 1


def _happen(uow: UnitOfWork, condition: Any, order: Any, limit: int, happening: Happening) -> list[str]:
    """Let something happen to the sagas that are due; return the ids of the commands they wait for."""
    return [_happen_to(uow, row, happening) for row in uow.claim(saga, condition, order, limit)]


def _happen_to(uow: UnitOfWork, row: Row, happening: Happening) -> str:
    """Move one saga; one that cannot be moved is an operator's, and must not hold up the others."""
    try:
        waiting = _advance(uow, row["id"], happening, unpack_context(row["context"])).outstanding
    except Exception as error:
        uow.drop()
        _tell_unmoved(uow, row["id"], error)
        _put_off(uow, row["id"])
        waiting = None
    uow.keep()
    return waiting[1] if waiting else ""


def _tell_unmoved(uow: UnitOfWork, saga_id: str, error: Exception) -> None:
    log.error("saga not moved", saga=saga_id, error=said(error))
    uow.append(incident, incident_row("unmoved", saga_id, type(error).__name__, said(error), uow.now))


def _put_off(uow: UnitOfWork, saga_id: str) -> None:
    uow.load([(saga, saga_id)])
    if row := uow.get(saga, saga_id):
        later = uow.now + UNMOVED_S
        uow.put(saga, {**row, "wake_at": row["wake_at"] and later, "resend_at": row["resend_at"] and later})


@contextmanager
def _one_by_one(runtime: Runtime, due: Column[Any], limit: int, happening: Happening) -> Iterator[None]:
    """Move due sagas each in a transaction of its own when the database refuses what moves them together."""
    try:
        yield
        return
    except Exception as error:
        if verdict(error) != "item":
            raise
    waiting = select(saga.c.id).order_by(due).limit(limit)
    for saga_id in runtime.relay.run(lambda uow: uow.values(waiting.where(due <= uow.now))):
        alone = partial(_happen, condition=saga.c.id == saga_id, order=due, limit=1, happening=happening)
        if refused := _refused(runtime, alone):
            runtime.relay.run(partial(_tell_unmoved, saga_id=saga_id, error=refused))
            _refused(runtime, partial(_put_off, saga_id=saga_id))


def _refused(runtime: Runtime, work: Callable[[UnitOfWork], object]) -> Exception | None:
    """Commit work on one saga; return why the database refuses it."""
    try:
        runtime.relay.run(work)
    except Exception as error:
        if verdict(error) != "item":
            raise
        return error
    return None


DUTIES = (wake_due_sagas, resend_to_silent)
