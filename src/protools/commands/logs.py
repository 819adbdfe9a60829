"""Offer `protools logs`: what the processes of `protools up` have printed."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial

import click

from pulsaga.errors import Unavailable
from pulsaga.settings import Settings
from pulsaga_program.logs import LEVELS, Filter, Level, Record, files_in, follow, last
from pulsaga_program.terminal import example, tell

LOOK_S = 0.3


@click.command(epilog=example("logs stock.worker --level warning -f"))
@click.argument("process", metavar="[SERVICE[.KIND]]", default="")
@click.option("-n", "--lines", "number", type=click.IntRange(0), default=100, show_default=True)
@click.option("-f", "--follow", "follows", is_flag=True, help="Go on with what is printed from now on, until Ctrl-C.")
@click.option("--saga", "saga_id", default="", metavar="ID", help="Those alone that name this saga, or message.")
@click.option("--level", type=click.Choice(LEVELS), default="debug", help="Those alone that are as severe.")
def command(process: str, number: int, follows: bool, saga_id: str, level: Level) -> None:
    """Show the logs of the processes of `protools up` on this machine, together, oldest first.

    Elsewhere a process logs to its standard output alone: what runs it keeps that.
    """
    folder, wanted = Settings.read().home / "logs", Filter(process, level, saga_id)
    if not files_in(folder, wanted):
        of = f" of {process}" if process else ""
        raise Unavailable(f"there are no logs{of} in {folder}: run this where `protools up` ran, or set PROTOOLS_HOME")
    for record in last(folder, wanted, number):
        _show(record)
    if follows:
        with suppress(KeyboardInterrupt):
            for record in follow(folder, wanted, partial(time.sleep, LOOK_S)):
                _show(record)


def _show(record: Record) -> None:
    for line in record.lines:
        tell(f"{record.process} | {line}")
