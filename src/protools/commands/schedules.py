"""Offer `protools schedules`: what starts by the calendar, when, and by hand."""

from __future__ import annotations

import time

import click

from pulsaga.operate import schedules as operating
from pulsaga.operate.listing import Listing, lists
from pulsaga_program.commands.operators import acting, operator, tell_done, the_runtimes
from pulsaga_program.terminal import example, tell


@click.group(epilog=example("schedules list"))
def schedules() -> None:
    """Look at what starts by the calendar; pause, resume and run it."""


@schedules.command("list", epilog=example("schedules list"))
@lists
def list_schedules() -> Listing:
    """List the schedules: when each ticks next, and what its last tick has started."""
    with the_runtimes() as runtimes:
        found = operating.schedules(runtimes)
    columns = ("name", "cron", "timezone", "is_paused", "next_at", "last_id", "last_status")
    return Listing(columns, found, f"{len(found)} schedules")


@schedules.command("next", epilog=example("schedules next nightly -n 3"))
@click.argument("name")
@click.option("-n", "number", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many.")
def next_ticks(name: str, number: int) -> None:
    """Print the next ticks of the schedule NAME, in its own time zone."""
    with the_runtimes() as runtimes:
        for at in operating.next_times(runtimes, name, number, time.time()):
            tell(at)


@schedules.command(epilog=example("schedules pause nightly --why 'holidays'"))
@click.argument("name")
@acting
def pause(name: str, who: str | None, why: str) -> None:
    """Let the schedule NAME start nothing until it is resumed; what it would start meanwhile is passed over."""
    _act(name, "pause", who, why)


@schedules.command(epilog=example("schedules resume nightly --why 'back'"))
@click.argument("name")
@acting
def resume(name: str, who: str | None, why: str) -> None:
    """Let the schedule NAME tick again, from now on."""
    _act(name, "resume", who, why)


@schedules.command(epilog=example("schedules run nightly --why 'last night failed'"))
@click.argument("name")
@acting
def run(name: str, who: str | None, why: str) -> None:
    """Start what the schedule NAME starts, now, whatever its last tick has started; its next tick stays."""
    _act(name, "run", who, why)


def _act(name: str, deed: operating.Deed, who: str | None, why: str) -> None:
    with the_runtimes() as runtimes:
        started = operating.act(runtimes, name, deed, operator(runtimes.settings, who, why))
    tell_done(started is not None, f"{deed} {name}" + (f": {started}" if started else ""))
