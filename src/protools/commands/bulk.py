"""Act on one thing by its id, or on many by what they have in common: the same options for all that is given up on."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from pulsaga.operate.bulk import Tally, one_by_one
from pulsaga.operate.choosing import EVERYTHING, GivenUp, Where, grouped
from pulsaga_program.commands.operators import NOT_YET_AGREED, F, tell_done
from pulsaga_program.terminal import tell

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""
EVERY = 100
"""After so many it says how far it has come."""


@dataclass(frozen=True)
class Choice:
    """What to act on: one by its id, else all for which the conditions hold."""

    identifier: str | None
    where: Where
    dry_run: bool


def where_option(names: Sequence[str]) -> Callable[[F], F]:
    """Add `--where`, which a command takes as `where`."""

    def read(_context: click.Context, _parameter: click.Parameter, given: Sequence[str]) -> Where:
        try:
            return Where.read(given, names)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    about = (
        f"Those alone for which it is so, of {', '.join(names)} and since (a time, or 15m, 2h); several must all hold."
    )
    return click.option("--where", "where", multiple=True, metavar="NAME=VALUE", callback=read, help=about)


def choosing(names: Sequence[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add what to act on: an ID, `--where`, or `--all`, which a command takes as its `choice`; refuse none of them."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @click.argument("identifier", metavar="[ID]", required=False)
        @where_option(names)
        @click.option("--all", "everything", is_flag=True, help="All that are open.")
        @click.option("--dry-run", is_flag=True, help="Say what would be done to how many; change nothing.")
        @wraps(command)
        def run(identifier: str | None, where: Where, everything: bool, dry_run: bool, **options: Any) -> None:
            if sum((identifier is not None, where != EVERYTHING, everything)) != 1:
                raise click.UsageError("which? say an ID, or --where, or --all")
            command(Choice(identifier, where, dry_run), **options)

        return run

    return decorate


def title(key: str, group: Sequence[GivenUp]) -> str:
    """Return the line that stands over a group."""
    return f"{len(group)} × {group[0].about}: {group[0].reason}  (group {key})"


def carry_out(action: str, choice: Choice, chosen: Sequence[GivenUp], act: Callable[[GivenUp], bool]) -> None:
    """Act on each that was chosen, say how far it has come, and exit with what came of it.

    What was named by its id is refused by the error that says why.
    """
    if choice.identifier and not choice.dry_run:
        tell_done(act(chosen[0]), f"{action} of {choice.identifier}")
        return
    if choice.dry_run:
        for key, group in grouped(chosen).items():
            tell(f"would {action} {title(key, group)}")
        tell(f"would {action} {len(chosen)}; nothing was changed")
        return
    with stoppable() as is_stopped:
        tally = _followed(one_by_one(chosen, act, is_stopped), len(chosen))
    _tell_end(action, tally)


def _followed(steps: Iterator[Tally], number: int) -> Tally:
    """Say how far it has come, also where it breaks off; return where it ended."""
    tally = Tally(number)
    try:
        for tally in steps:
            if tally.looked_at and tally.looked_at % EVERY == 0:
                click.echo(f"{tally.looked_at} of {number}", err=True)
    except BaseException:
        tell(f"broke off at {tally.looked_at} of {number}: the same command goes on from there", err=True)
        raise
    return tally


def _tell_end(action: str, tally: Tally) -> None:
    for one, why in tally.refused:
        tell(f"refused: {one.id} in {one.service}: {why}", err=True)
    tell(f"{action}: {tally.done} of {tally.number} done" + f", {len(tally.refused)} refused" * bool(tally.refused))
    if tally.recorded:
        tell(f"not done yet, recorded: {tally.recorded}, to which another operator has to agree by the same command")
    if tally.looked_at < tally.number:
        tell(f"stopped at {tally.looked_at} of {tally.number}: the same command goes on from there", err=True)
    sys.exit(_exit_code(tally))


def _exit_code(tally: Tally) -> int:
    if tally.looked_at < tally.number:
        return STOPPED
    return 1 if tally.refused else NOT_YET_AGREED if tally.recorded else 0


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C end the work once what is in hand is done; a second one ends the program."""
    asked: list[int] = []

    def stop(number: int, _frame: object) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
