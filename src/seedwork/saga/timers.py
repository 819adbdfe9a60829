"""Deadlines and silence: sagas that are due get their turn, unanswered commands are sent again within a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from sqlalchemy import Column, Table, exists, literal, select, true, union, union_all

from pulsaga.delivery import loop
from pulsaga.delivery.blame import verdict
from pulsaga.delivery.dispatch.reader import Received
from pulsaga.delivery.incidents import open_incident_about
from pulsaga.delivery.loop import Duty
from pulsaga.delivery.tables import unpack_context
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.saga.coordinator import Coordinator
from pulsaga.saga.happenings import Due, Silent
from pulsaga.saga.kept import branch_id
from pulsaga.saga.tables import saga, saga_branch, target
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
    due = partial(_due, sagas)

    def wake() -> None:
        with _one_by_one(runtime, due, PAGE):
            runtime.transactions.run_pages(lambda uow: len(_take_turns(sagas, uow, due(uow, _all, PAGE))), PAGE)

    return Duty("wake-ups", wake, due=[loop.Due(saga.c.wake_at, sagas.longest_wait_s)])


def resend_to_silent(runtime: Runtime) -> Duty:
    """Send unanswered commands again, oldest first, within a budget per target.

    That is one probe an interval while the target is silent, else 10 % of the replies just handled; ten for one while
    nothing is answered but what this coordinator sent again.
    """
    sagas = runtime.system.sagas
    silent = partial(_silent_branches if sagas.has_branches else _silent_sagas, sagas)
    tables = (saga, saga_branch) if sagas.has_branches else (saga,)
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
        for name in sorted(uow.values(_silent_targets(sagas, uow))):
            if budget := budget_for(name, uow):
                again += _take_turns(sagas, uow, silent(uow, partial(_sent_to, name), budget))
        if again:  # those before it may be answered to another coordinator, and would be kept for ever
            sent_again.clear()
            sent_again.update(again)
        forget()

    def forget() -> None:
        answered.clear()
        repeated.clear()

    def resend() -> None:
        with _one_by_one(runtime, silent, GROWTH):
            runtime.transactions.run(work)

    longest_s = max(UNMOVED_S, sagas.longest_silence_s)
    due = [loop.Due(table.c.resend_at, longest_s) for table in tables]
    return Duty("re-sending", resend, woken_by=count, due=due, calm=forget)


def _probe(uow: UnitOfWork, name: str) -> int:
    """Return 1 when no coordinator has probed this target within the interval, else 0."""
    uow.load([(target, name)])
    row = uow.get(target, name)
    if row and 0 < row["probe_at"] - uow.now <= 2 * PROBE_EVERY_S:  # a clock that was put back leaves it far ahead
        return 0
    known = row or {"name": name, "usual_s": None, "spread_s": None}
    uow.put(target, {**known, "probe_at": uow.now + PROBE_EVERY_S})
    return 1


OF_ITS_SAGA = saga_branch.c.saga_id == saga.c.id


class Turn(NamedTuple):
    """The row of a saga, claimed, and what happens to it."""

    row: Row
    happening: Due | Silent


Which = Callable[[Table], Any]
"""A condition on the rows of `saga` and of `saga_branch`."""
Find = Callable[[UnitOfWork, Which, int], list[Turn]]


def _all(_table: Table) -> Any:
    return true()


def _sent_to(name: str, table: Table) -> Any:
    return table.c.target == name


def _of(saga_id: str, table: Table) -> Any:
    return (table.c.id if table is saga else table.c.saga_id) == saga_id


def _come(sagas: Coordinator, uow: UnitOfWork, at: Column[Any]) -> Any:
    """Select what is due; a saga that only another release can move has a minute's time for it."""
    mine: Any = saga.c.workflow.in_(sagas.workflows)
    if at.table is saga_branch:  # asked of what is due: a join may read every saga
        mine = exists().where(OF_ITS_SAGA, mine)
    return (at <= uow.now) & (mine | (at <= uow.now - UNMOVED_S))


def _due(sagas: Coordinator, uow: UnitOfWork, which: Which, limit: int) -> list[Turn]:
    rows = uow.claim(saga, which(saga) & _come(sagas, uow, saga.c.wake_at), saga.c.wake_at, limit)
    return [Turn(row, Due()) for row in rows]


def _silent_targets(sagas: Coordinator, uow: UnitOfWork) -> Any:
    trunks = select(saga.c.target).where(_come(sagas, uow, saga.c.resend_at)).distinct()
    if not sagas.has_branches:
        return trunks
    return union(trunks, select(saga_branch.c.target).where(_come(sagas, uow, saga_branch.c.resend_at)))


def _silent_sagas(sagas: Coordinator, uow: UnitOfWork, which: Which, limit: int) -> list[Turn]:
    rows = uow.claim(saga, which(saga) & _come(sagas, uow, saga.c.resend_at), saga.c.resend_at, limit)
    return [Turn(row, Silent()) for row in rows]


def _silent_branches(sagas: Coordinator, uow: UnitOfWork, which: Which, limit: int) -> list[Turn]:
    """Find what is silent in trunks and branches; what has moved before its saga could be claimed is left out."""
    trunk, branch = saga.c, saga_branch.c
    of_trunks = select(trunk.id, literal("").label("path"), trunk.resend_at)
    of_branches = select(branch.saga_id, branch.path, branch.resend_at)
    found = union_all(
        of_trunks.where(which(saga), _come(sagas, uow, trunk.resend_at)),
        of_branches.where(which(saga_branch), _come(sagas, uow, branch.resend_at)),
    ).subquery()
    oldest = uow.tx.execute(select(found).order_by(found.c.resend_at).limit(limit)).all()
    claimed = uow.claim(saga, trunk.id.in_({saga_id for saga_id, _, _ in oldest}), trunk.id, limit)
    rows = {row["id"]: row for row in claimed}
    uow.load((saga_branch, branch_id(saga_id, path)) for saga_id, path, _ in oldest if path and saga_id in rows)
    kept = [(rows[saga_id], path) for saga_id, path, _ in oldest if saga_id in rows]
    return [Turn(row, Silent(path)) for row, path in kept if _is_silent(uow, row, path)]


def _is_silent(uow: UnitOfWork, row: Row, path: str) -> bool:
    branch = uow.get(saga_branch, branch_id(row["id"], path)) if path else row
    return branch is not None and branch["resend_at"] is not None and branch["resend_at"] <= uow.now


def _take_turns(sagas: Coordinator, uow: UnitOfWork, turns: Iterable[Turn]) -> list[str]:
    """Let something happen to sagas; return the ids of the commands that are waited for."""
    return [_take_turn(sagas, uow, turn) for turn in turns]


def _take_turn(sagas: Coordinator, uow: UnitOfWork, turn: Turn) -> str:
    """Move one saga; one that cannot be moved is an operator's, and must not hold up the others."""
    row, waiting = turn.row, None
    try:
        progress = sagas.happen(uow, row["id"], turn.happening, unpack_context(row["context"]))
        branch = turn.happening.branch if isinstance(turn.happening, Silent) else ""
        waiting = progress.branch(branch).outstanding(compensating=progress.compensating)
    except Exception as error:
        uow.drop()
        _tell_unmoved(uow, row["id"], error)
        _put_off(uow, row["id"])
    uow.keep()
    return waiting[1] if waiting else ""


def _tell_unmoved(uow: UnitOfWork, saga_id: str, error: Exception) -> None:
    log.error("saga not moved", saga=saga_id, error=describe(error))
    open_incident_about(uow, "unmoved", saga_id, error)


def _put_off(uow: UnitOfWork, saga_id: str) -> None:
    uow.load([(saga, saga_id)])
    later = uow.now + UNMOVED_S
    if row := uow.get(saga, saga_id):
        uow.put(saga, {**row, "wake_at": row["wake_at"] and later, "resend_at": row["resend_at"] and later})
    for branch in uow.rows_with(saga_branch, saga_branch.c.saga_id, saga_id):
        uow.put(saga_branch, {**branch, "resend_at": branch["resend_at"] and later})


@contextmanager
def _one_by_one(runtime: Runtime, find: Find, limit: int) -> Iterator[None]:
    """Move sagas each in a transaction of its own when the database refuses what moves them together."""
    try:
        yield
        return
    except Exception as error:
        if verdict(error) != "item":
            raise
    waiting = runtime.transactions.run(lambda uow: find(uow, _all, limit))
    for saga_id in dict.fromkeys(turn.row["id"] for turn in waiting):
        if refused := _refused(runtime, partial(_move_alone, runtime.system.sagas, find, saga_id)):
            runtime.transactions.run(partial(_tell_unmoved, saga_id=saga_id, error=refused))
            _refused(runtime, partial(_put_off, saga_id=saga_id))


def _move_alone(sagas: Coordinator, find: Find, saga_id: str, uow: UnitOfWork) -> None:
    _take_turns(sagas, uow, find(uow, partial(_of, saga_id), PAGE))


def _refused(runtime: Runtime, work: Callable[[UnitOfWork], object]) -> Exception | None:
    """Commit work on one saga; return why the database refuses it."""
    try:
        runtime.transactions.run(work)
    except Exception as error:
        if verdict(error) != "item":
            raise
        return error
    return None
