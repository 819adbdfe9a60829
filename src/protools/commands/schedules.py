"""Offer `protools schedules`: what starts by the calendar, when, and by hand."""

from __future__ import annotations

import time

import click

from pulsaga.operate import schedules as operating
from pulsaga_program.commands.operators import acting, as_json, operator, tell_done, the_runtimes
from pulsaga_program.terminal import tell, tell_json


@click.group()
def schedules() -> None:
    """Look at what starts by the calendar; pause, resume and run it."""


@schedules.command("list")
@as_json
def list_schedules(as_json: bool) -> None:
    """List the schedules: when each ticks next, and what its last tick has started."""
    with the_runtimes() as runtimes:
        found = operating.schedules(runtimes)
    if as_json:
        tell_json(found)
        return
    for one in found:
        last = f"{one['last_id']} {one['last_status'] or 'under way'}" if one["last_id"] else "never"
        tell(f"{one['name']}  {one['cron']}  {one['timezone']}  next {one['next_at'] or 'paused'}  last {last}")
    tell(f"{len(found)} schedules")


@schedules.command("next")
@click.argument("name")
@click.option("-n", "number", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many.")
def next_ticks(name: str, number: int) -> None:
    """Print the next ticks of the schedule NAME, in its own time zone."""
    with the_runtimes() as runtimes:
        for at in operating.next_times(runtimes, name, number, time.time()):
            tell(at)


@schedules.command()
@click.argument("name")
@acting
def pause(name: str, who: str | None, why: str) -> None:
    """Let the schedule NAME start nothing until it is resumed; what it would start meanwhile is passed over."""
    _act(name, "pause", who, why)


@schedules.command()
@click.argument("name")
@acting
def resume(name: str, who: str | None, why: str) -> None:
    """Let the schedule NAME tick again, from now on."""
    _act(name, "resume", who, why)


@schedules.command()
@click.argument("name")
@acting
def run(name: str, who: str | None, why: str) -> None:
    """Start what the schedule NAME starts, now, whatever its last tick has started; its next tick stays."""
    _act(name, "run", who, why)


def _act(name: str, deed: operating.Deed, who: str | None, why: str) -> None:
    with the_runtimes() as runtimes:
        started = operating.act(runtimes, name, deed, operator(runtimes.settings, who, why))
    tell_done(started is not None, f"{deed} {name}" + (f": {started}" if started else ""))
