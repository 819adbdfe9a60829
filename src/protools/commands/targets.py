"""Offer `protools targets`."""

from __future__ import annotations

import click

from pulsaga.located import the_system
from pulsaga.operate.status.targets import targets
from pulsaga.settings import Settings
from pulsaga_program.terminal import example, tell_json


@click.command("targets", epilog=example("targets >targets.new && mv targets.new targets.json"))
def command() -> None:
    """Print where every process that runs answers Prometheus, as the JSON of its file_sd and http_sd. Reads only.

    While a database is down nothing is printed and the exit code is 1: keep the file of before.
    """
    tell_json(targets(the_system(), Settings.read()))
