"""Deadlines and silence: sagas that are due get their turn, unanswered commands are sent again within a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Column, select

from pulsaga.delivery import loop
from pulsaga.delivery.blame import verdict
from pulsaga.delivery.dispatch.reader import Received
from pulsaga.delivery.incidents import open_incident
from pulsaga.delivery.loop import Duty
from pulsaga.delivery.tables import unpack_context
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.saga.coordinator import Coordinator
from pulsaga.saga.log import Due, Happening, Silent
from pulsaga.saga.tables import saga, target
from pulsaga.text import describe

if TYPE_CHECKING:
    from pulsaga.running.runtime import Runtime

log = structlog.get_logger()
PAGE = 500
PROBE_EVERY_S = 5.0
GROWTH = 10
UNMOVED_S = 60.0
"""Seconds for which a saga that cannot be moved leaves the others their turn."""


def wake_due_sagas(runtime: Runtime) -> Duty:
    """Give the sagas whose deadline has passed their turn."""

    sagas = runtime.system.sagas

    def work(uow: UnitOfWork) -> int:
        return len(_happen(sagas, uow, saga.c.wake_at <= uow.now, saga.c.wake_at, PAGE, Due()))

    def wake() -> None:
        with _one_by_one(runtime, saga.c.wake_at, PAGE, Due()):
            runtime.transactions.run_pages(work, PAGE)

    return Duty("wake-ups", wake, due=loop.Due(saga.c.wake_at, sagas.longest_wait_s))


def resend_to_silent(runtime: Runtime) -> Duty:
    """Send unanswered commands again, oldest first, within a budget per target.

    That is one probe an interval while the target is silent, else 10 % of the replies just handled; ten for one while
    nothing is answered but what this coordinator sent again.
    """
    sagas = runtime.system.sagas
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
                again += _happen(sagas, uow, due, saga.c.resend_at, budget, Silent())
        if again:  # those before it may be answered to another coordinator, and would be kept for ever
            sent_again.clear()
            sent_again.update(again)
        forget()

    def forget() -> None:
        answered.clear()
        repeated.clear()

    def resend() -> None:
        with _one_by_one(runtime, saga.c.resend_at, GROWTH, Silent()):
            runtime.transactions.run(work)

    longest_s = max(UNMOVED_S, sagas.longest_silence_s)
    return Duty("re-sending", resend, woken_by=count, due=loop.Due(saga.c.resend_at, longest_s), calm=forget)


def _probe(uow: UnitOfWork, name: str) -> int:
    """Return 1 when no coordinator has probed this target within the interval, else 0."""
    uow.load([(target, name)])
    row = uow.get(target, name)
    if row and 0 < row["probe_at"] - uow.now <= 2 * PROBE_EVERY_S:  # a clock that was put back leaves it far ahead
        return 0
    uow.put(target, {"name": name, "probe_at": uow.now + PROBE_EVERY_S})
    return 1


def _happen(
    sagas: Coordinator, uow: UnitOfWork, condition: Any, order: Any, limit: int, happening: Happening
) -> list[str]:
    """Let something happen to the sagas that are due; return the ids of the commands they wait for."""
    return [_happen_to(sagas, uow, row, happening) for row in uow.claim(saga, condition, order, limit)]


def _happen_to(sagas: Coordinator, uow: UnitOfWork, row: Row, happening: Happening) -> str:
    """Move one saga; one that cannot be moved is an operator's, and must not hold up the others."""
    try:
        waiting = sagas.happen(uow, row["id"], happening, unpack_context(row["context"])).outstanding
    except Exception as error:
        uow.drop()
        _tell_unmoved(uow, row["id"], error)
        _put_off(uow, row["id"])
        waiting = None
    uow.keep()
    return waiting[1] if waiting else ""


def _tell_unmoved(uow: UnitOfWork, saga_id: str, error: Exception) -> None:
    log.error("saga not moved", saga=saga_id, error=describe(error))
    open_incident(uow, "unmoved", saga_id, type(error).__name__, describe(error))


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
    for saga_id in runtime.transactions.run(lambda uow: uow.values(waiting.where(due <= uow.now))):
        of_saga = {"condition": saga.c.id == saga_id, "order": due, "limit": 1, "happening": happening}
        alone = partial(_happen, runtime.system.sagas, **of_saga)
        if refused := _refused(runtime, alone):
            runtime.transactions.run(partial(_tell_unmoved, saga_id=saga_id, error=refused))
            _refused(runtime, partial(_put_off, saga_id=saga_id))


def _refused(runtime: Runtime, work: Callable[[UnitOfWork], object]) -> Exception | None:
    """Commit work on one saga; return why the database refuses it."""
    try:
        runtime.transactions.run(work)
    except Exception as error:
        if verdict(error) != "item":
            raise
        return error
    return None
