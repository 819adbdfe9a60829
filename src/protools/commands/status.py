"""Offer `protools status`."""

from __future__ import annotations

import sys
import time

import click

from pulsaga.located import the_system
from pulsaga.settings import Settings
from pulsaga_program.terminal import example, tell, tell_json


@click.command("status", epilog=example("status --watch 2"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--watch",
    is_flag=False,
    flag_value="5",
    type=click.FloatRange(min=1),
    metavar="[SECONDS]",
    help="Again and again, until Ctrl-C.",
)
def command(as_json: bool, watch: float | None) -> None:
    """Show how the system is, and what somebody should look at; exit 1 when there is something. Reads only."""
    if watch is None:
        sys.exit(1 if _show(as_json) else 0)
    while True:
        if not as_json:
            click.clear()
        _show(as_json)
        time.sleep(watch)


def _show(as_json: bool) -> int:
    from pulsaga.operate.status import remote
    from pulsaga.operate.status.findings import findings
    from pulsaga.operate.status.screen import document, lines
    from pulsaga.operate.status.survey import survey

    system, settings = the_system(), Settings.read()
    url = settings.operators_url
    picture = remote.survey(system, url, settings.token or "") if url else survey(system, settings)
    found = findings(picture)
    if as_json:
        tell_json(document(picture, found))
    else:
        for line in lines(picture, found):
            tell(line)
    return len(found)
