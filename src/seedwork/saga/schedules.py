"""The duty that starts sagas by the calendar. A schedule's row says which tick is next, and is held while it fires."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, takewhile
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select

from pulsaga.delivery import loop
from pulsaga.delivery.incidents import close_incidents, open_incident_about
from pulsaga.delivery.loop import Duty
from pulsaga.delivery.messages import Context, new_id
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.records import plain
from pulsaga.saga.calendar import Schedule
from pulsaga.saga.coordinator import Coordinator
from pulsaga.saga.log import TERMINAL
from pulsaga.saga.tables import saga, schedule
from pulsaga.telemetry import traces
from pulsaga.text import describe

if TYPE_CHECKING:
    from pulsaga.running.runtime import Runtime

log = structlog.get_logger()
PAGE = 100
LOOK_S = 5.0
"""Seconds after which a tick that waits for the saga before it is looked at again."""
OTHERS_S = 60.0
"""Seconds for which a schedule that only another release declares is left to that one."""
UNDER_WAY_S = 300.0
"""Seconds for which a saga that has not begun is believed to be under way."""
LONGEST_S = 40 * 366 * 24 * 3600.0


def start_by_schedule(runtime: Runtime) -> Duty:
    """Start what is due by the calendar."""
    sagas = runtime.system.sagas
    is_known = False

    def work() -> None:
        nonlocal is_known
        if not is_known:
            runtime.transactions.run(lambda uow: _make_known(sagas, uow))
            is_known = True
        runtime.transactions.run_pages(lambda uow: _fire_due(sagas, uow), PAGE)

    due = [loop.Due(schedule.c.next_at, LONGEST_S)] if sagas.schedules else []
    return Duty("schedules", work, due=due, wanted=lambda: not is_known)


def _make_known(sagas: Coordinator, uow: UnitOfWork) -> None:
    """Keep a row for each schedule; one whose times were changed begins anew."""
    uow.load((schedule, name) for name in sagas.schedules)
    for name, declared in sagas.schedules.items():
        row = uow.get(schedule, name)
        if row is None or row["times"] != declared.times:
            uow.put(schedule, planned(declared, row, uow.now))


def planned(declared: Schedule, row: Row | None, now: float) -> Row:
    """Return a schedule's row with its next tick from now on."""
    kept = row or {"name": declared.name, "last_id": None, "last_at": None, "is_paused": False}
    tick_at = declared.after(now)
    return {**kept, "times": declared.times, "tick_at": tick_at, "next_at": None if kept["is_paused"] else tick_at}


def _fire_due(sagas: Coordinator, uow: UnitOfWork) -> int:
    rows = uow.claim(schedule, schedule.c.next_at <= uow.now, schedule.c.next_at, PAGE)
    for row in rows:
        declared = sagas.schedules.get(row["name"])
        if declared is None or row["times"] != declared.times:
            uow.put(schedule, {**row, "next_at": uow.now + OTHERS_S})
        else:
            _fire_one(sagas, declared, row, uow)
        uow.keep()
    return len(rows)


def _fire_one(sagas: Coordinator, declared: Schedule, row: Row, uow: UnitOfWork) -> None:
    """Fire what is due of one schedule; one that goes wrong is an operator's, and holds up no other."""
    try:
        uow.put(schedule, _fired(sagas, declared, row, uow))
        close_incidents(uow, "schedule", declared.name)
    except Exception as error:
        uow.drop()
        log.error("schedule not fired", schedule=declared.name, error=describe(error))
        open_incident_about(uow, "schedule", declared.name, error)
        uow.put(schedule, planned(declared, row, uow.now))


def _fired(sagas: Coordinator, declared: Schedule, row: Row, uow: UnitOfWork) -> Row:
    for tick in _due_ticks(declared, row["tick_at"], uow.now):
        if declared.overlap == "allow" or not _is_running(row, uow):
            row = {**row, "last_id": start_at(sagas, declared, tick, uow), "last_at": uow.now}
        elif declared.overlap == "queue":
            return {**row, "tick_at": tick, "next_at": uow.now + LOOK_S}
    return planned(declared, row, uow.now)


def _due_ticks(declared: Schedule, first: float, now: float) -> Iterator[float]:
    """Yield the ticks up to now that are not passed over."""
    oldest = now - declared.catch_up
    if first < oldest:
        log.warning("ticks passed over", schedule=declared.name, since=declared.local(first).isoformat())
        first = declared.after(oldest)
    return takewhile(lambda tick: tick <= now, chain([first], declared.ticks(first)))


def start_at(sagas: Coordinator, declared: Schedule, tick: float, uow: UnitOfWork) -> str:
    """Send the command of a tick; return the id of the saga to be."""
    command, identifier = declared.command(declared.local(tick)), new_id()
    workflow = sagas.starting[type(command)]
    edge = traces.enter(f"schedule {declared.name}", "internal")
    context = Context(identifier, traceparent=edge.traceparent)
    uow.send(command, workflow.subject_of(plain(command)), command_id=identifier, context=context)
    uow.log("schedule fired", context=context, command=identifier, schedule=declared.name, workflow=workflow.name)
    if edge.span:
        uow.end_span(edge.span)
    return identifier


def _is_running(row: Row, uow: UnitOfWork) -> bool:
    if row["last_id"] is None:
        return False
    known = uow.values(select(saga.c.status).where(saga.c.id == row["last_id"]))
    return known[0] not in TERMINAL if known else uow.now < row["last_at"] + UNDER_WAY_S
