"""Erase a person from everything the system keeps, from the command line."""

from __future__ import annotations

import click

from pulsaga.operate.erasing import erase
from pulsaga_program.commands.operators import acting, operator, tell_done, the_runtimes
from pulsaga_program.terminal import SOME_ID, example


@click.command(epilog=example(f"erase {SOME_ID} --why 'asked on 3 May'"))
@click.argument("person_id", metavar="ID")
@acting
def command(person_id: str, who: str | None, why: str) -> None:
    """Erase the person of an ID: what names them becomes a keyed hash in every record about them.

    It runs beside the system, and may be stopped and run again. What was published lies in its topics until their
    retention is over; what was mailed is in its mailbox.
    """
    with the_runtimes() as runtimes:
        changed = erase(runtimes, person_id, operator(runtimes.settings, who, why))
    tell_done(changed is not None, f"{changed or 0} records changed" if changed is not None else f"erase {person_id}")
