"""Limits: a step under one waits for its turn, and holds a slot while its command is under way.

A slot is a row that its saga's moves write, so none is lost when a coordinator dies. Turns are given under a lock of
the limit, to those that have waited longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import structlog
from sqlalchemy import func, select

from pulsaga.delivery.incidents import open_incident_about
from pulsaga.delivery.loop import Duty
from pulsaga.delivery.tables import unpack_context
from pulsaga.delivery.transaction.rows import Insert, Row, change
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.saga.happenings import Granted
from pulsaga.saga.kept import branch_id
from pulsaga.saga.log import TERMINAL, Entry, Progress
from pulsaga.saga.steps import Limit
from pulsaga.saga.tables import saga, slot, slot_limit
from pulsaga.text import describe

if TYPE_CHECKING:
    from pulsaga.running.runtime import Runtime
    from pulsaga.saga.coordinator import Coordinator

log = structlog.get_logger()
PAGE = 100
SlotState = Literal["waiting", "held", "free"]


def note_slots(uow: UnitOfWork, progress: Progress, entries: Sequence[Entry]) -> None:
    """Write which steps of a saga wait for their turn and which hold a slot, after a move."""
    queued = {entry.path: entry for entry in entries if entry.kind == "queued"}
    kept = {row["path"]: row for row in uow.rows_with(slot, slot.c.saga_id, progress.saga_id)}
    for path in kept.keys() | queued.keys():
        row = kept.get(path) or {
            "id": branch_id(progress.saga_id, path),
            "limit_key": queued[path].code,
            "saga_id": progress.saga_id,
            "path": path,
        }
        now = {**row, "state": slot_state(progress, path), "at": uow.now if path in queued else row["at"]}
        if now != row:
            uow.put(slot, now)


def slot_state(progress: Progress, path: str) -> SlotState:
    """Return what a step under a limit has of it: its turn is waited for, it holds a slot, or neither."""
    if progress.compensating or progress.status in TERMINAL:
        return "free"
    branch, status = progress.branch_around(path), progress.step(path).status
    if status == "queued":
        return "free" if progress.is_stuck(branch) or progress.paused else "waiting"
    return "held" if status == "issued" else "free"


def give_turns(runtime: Runtime) -> Duty:
    """Give free slots to those that wait, as soon as a batch may have changed something."""
    sagas = runtime.system.sagas
    are_known = False

    def work() -> None:
        nonlocal are_known
        if not are_known:
            runtime.transactions.run(partial(_make_known, sagas))
            are_known = True
        runtime.transactions.run(_clear)
        for key, limit in sagas.limits.items():
            runtime.transactions.run_pages(partial(_give, sagas, key, limit), PAGE)

    return Duty("limits", work, woken_by=bool)


def _make_known(sagas: Coordinator, uow: UnitOfWork) -> None:
    change(uow.tx, [Insert(slot_limit, [{"limit_key": key} for key in sorted(sagas.limits)], "ignore")])


def _clear(uow: UnitOfWork) -> None:
    for row in uow.claim(slot, slot.c.state == "free", slot.c.at, PAGE):
        uow.remove(slot, row["id"])


def _give(sagas: Coordinator, key: str, limit: Limit, uow: UnitOfWork) -> int:
    """Give the free slots of one limit; return how many that were."""
    waiting = (slot.c.limit_key == key) & (slot.c.state == "waiting")
    if not uow.values(select(slot.c.id).where(waiting).limit(1)):
        return 0
    uow.load([(slot_limit, key)])  # from here on nobody else gives turns under it
    held = select(func.count()).select_from(slot).where(slot.c.limit_key == key, slot.c.state == "held")
    free = limit.at_most - uow.values(held)[0]
    mine = slot.c.saga_id.in_(select(saga.c.id).where(saga.c.workflow.in_(sagas.workflows)))
    turns = select(slot.c.id, slot.c.saga_id, slot.c.path).where(waiting, mine).order_by(slot.c.at, slot.c.id)
    oldest = uow.tx.execute(turns.limit(min(max(free, 0), PAGE))).all()
    rows = {row["id"]: row for row in uow.claim(saga, saga.c.id.in_({one.saga_id for one in oldest}), saga.c.id, PAGE)}
    for one in oldest:
        if row := rows.get(one.saga_id):
            _give_turn(sagas, row, one.path, uow)
    return len(rows)


def _give_turn(sagas: Coordinator, row: Row, path: str, uow: UnitOfWork) -> None:
    try:
        sagas.happen(uow, row["id"], Granted(path), unpack_context(row["context"]))
    except Exception as error:
        uow.drop()
        log.error("saga not moved", saga=row["id"], error=describe(error))
        open_incident_about(uow, "unmoved", row["id"], error)
        uow.load([(slot, branch_id(row["id"], path))])
        if waiting := uow.get(slot, branch_id(row["id"], path)):
            uow.put(slot, {**waiting, "at": uow.now})  # behind the others
    uow.keep()
