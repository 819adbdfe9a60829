"""The loops of a process beside its own work: duties, the outbox, and what a web process does in the background."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pulsaga.delivery.incidents import close_incidents, open_incident_about
from pulsaga.delivery.loop import LOOK_S, Due, Duty, DutyThread, Lookout, Report
from pulsaga.delivery.tables import outbox
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.running.process import Process, repeat
from pulsaga.running.runtime import Runtime

if TYPE_CHECKING:
    from flask import Flask


def add_background(process: Process, app: Flask, runtime: Runtime) -> None:
    """Add what a web process does beside HTTP: publish what it commits, wake who waits, look after its outbox."""
    waiting = app.extensions.get("waiting")
    if waiting is not None:
        process.add("waiting", waiting.run, waiting.release)
    publisher = repeat(runtime.transactions.outbox.publish_waiting)
    process.add("publisher", publisher.run, publisher.stop)
    duties = [*housekeeping(runtime), *app.extensions["duties"]]
    settings = runtime.settings
    seldom = max(LOOK_S, settings.sweep_after)  # it has its outbox to look at, as the worker beside it does each second
    looking = partial(Lookout, runtime.write, settings.clock_offset, every_s=seldom)
    add_duties(process, looking, duties, partial(report, runtime))


def add_duties(
    process: Process, looking: Callable[[Sequence[DutyThread]], Lookout], duties: Sequence[Duty], report: Report
) -> list[DutyThread]:
    """Add a thread for each duty, and one that looks whether something is due."""
    threads = [DutyThread(duty, report) for duty in duties]
    lookout = looking(threads)
    process.add("lookout", lookout.run, lookout.stop)
    for thread in threads:
        process.add(thread.name, thread.run, thread.stop)
    return threads


def report(runtime: Runtime, duty: str, error: Exception | None) -> None:
    """Keep an incident open while a duty breaks each time it is run."""
    subject = f"{runtime.service} {duty}"

    def work(uow: UnitOfWork) -> None:
        if error is None:
            close_incidents(uow, "duty-broken", subject)
        else:
            open_incident_about(uow, "duty-broken", subject, error)

    runtime.transactions.run(work)


def housekeeping(runtime: Runtime) -> list[Duty]:
    """Return what clears and sweeps the outbox of a process."""
    committed, due = runtime.transactions.outbox, [Due(outbox.c.due_at, runtime.settings.sweep_after)]
    return [
        Duty("outbox", committed.clear),
        Duty("sweep", committed.sweep, due=due, wanted=committed.has_to_try),
    ]
