"""Offer `protools doctor`."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from pulsaga.located import the_system
from pulsaga.settings import Settings
from pulsaga_program.terminal import example, tell, tell_json


@click.command("doctor", epilog=example("doctor"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Look whether everything is there and set up rightly, and say what to do; exit 1 where it is not. Reads only."""
    from pulsaga_program.doctor import examine

    found = examine(the_system(), Settings.read())
    if as_json:
        tell_json([asdict(one) | {"is_well": one.is_well} for one in found])
    else:
        for one in found:
            tell(f"{'ok ' if one.is_well else '!  '} {one.about}: {one.detail}")
            if one.do:
                tell(f"      -> {one.do}")
    sys.exit(0 if all(one.is_well for one in found) else 1)
