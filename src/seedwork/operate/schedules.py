"""Look at schedules; pause, resume and run them by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, Literal

import click
from sqlalchemy import select

from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork, rfc3339
from pulsaga.operate.acting import Act, Runtimes, Signature, carry_out
from pulsaga.saga.calendar import Schedule
from pulsaga.saga.schedules import planned, start_at
from pulsaga.saga.tables import saga, schedule

Deed = Literal["pause", "resume", "run"]


def schedules(runtimes: Runtimes) -> list[dict[str, Any]]:
    """Return what is declared, when each ticks next, and what its last tick has started."""
    with runtimes.coordinator.write.connect() as connection:
        rows = {row["name"]: dict(row) for row in connection.execute(select(schedule)).mappings()}
        last = [row["last_id"] for row in rows.values() if row["last_id"]]
        known = select(saga.c.id, saga.c.status).where(saga.c.id.in_(last))
        statuses = {row["id"]: row["status"] for row in connection.execute(known).mappings()}
    return [_shown(one, rows.get(name), statuses) for name, one in sorted(runtimes.system.sagas.schedules.items())]


def _shown(declared: Schedule, row: Row | None, statuses: dict[str, str]) -> dict[str, Any]:
    last = row["last_id"] if row else None
    return {
        "name": declared.name,
        "cron": declared.cron,
        "timezone": declared.timezone,
        "next_at": rfc3339(row["tick_at"]) if row and not row["is_paused"] else None,
        "is_paused": bool(row and row["is_paused"]),
        "last_id": last,
        "last_status": statuses.get(last) if last else None,
    }


def next_times(runtimes: Runtimes, name: str, number: int, now: float) -> list[str]:
    """Return the next ticks of a schedule, in its own time zone; raise UsageError when there is none of this name."""
    declared = _declared(runtimes, name)
    return [declared.local(tick).isoformat() for tick in islice(declared.ticks(now), number)]


def act(runtimes: Runtimes, name: str, deed: Deed, by: Signature) -> str | None:
    """Pause, resume or run a schedule; return the id of what was started, or an empty one.

    Return None when another operator has to agree first. Raise UsageError when there is none of this name.
    """
    declared, wanted = _declared(runtimes, name), Act(by, deed, f"schedule {name}")

    def work(uow: UnitOfWork) -> str | None:
        return DEEDS[deed](runtimes, declared, uow) if carry_out(runtimes, uow.tx, wanted, uow.now) else None

    return runtimes.coordinator.transactions.run(work)


def _declared(runtimes: Runtimes, name: str) -> Schedule:
    known = runtimes.system.sagas.schedules
    if name not in known:
        raise click.UsageError(f"there is no schedule {name}: {', '.join(sorted(known)) or 'none is declared'}")
    return known[name]


def _row(declared: Schedule, uow: UnitOfWork) -> Row:
    uow.load([(schedule, declared.name)])
    return uow.get(schedule, declared.name) or planned(declared, None, uow.now)


def _pause(_runtimes: Runtimes, declared: Schedule, uow: UnitOfWork) -> str:
    uow.put(schedule, {**_row(declared, uow), "is_paused": True, "next_at": None})
    return ""


def _resume(_runtimes: Runtimes, declared: Schedule, uow: UnitOfWork) -> str:
    uow.put(schedule, planned(declared, {**_row(declared, uow), "is_paused": False}, uow.now))
    return ""


def _run(runtimes: Runtimes, declared: Schedule, uow: UnitOfWork) -> str:
    """Start it now, beside whatever runs; its next tick stays."""
    started = start_at(runtimes.system.sagas, declared, uow.now, uow)
    uow.put(schedule, {**_row(declared, uow), "last_id": started, "last_at": uow.now})
    return started


DEEDS: dict[Deed, Callable[[Runtimes, Schedule, UnitOfWork], str]] = {"pause": _pause, "resume": _resume, "run": _run}
