"""Archive what ended long ago, from the command line."""

from __future__ import annotations

import click

from pulsaga.located import the_system
from pulsaga.operate.retention import archive, archive_dealt_with
from pulsaga.settings import Settings
from pulsaga.values import span
from pulsaga_program.terminal import example


@click.command(epilog=example("retention --older-than 60d"))
@click.option("--older-than", metavar="SPAN", help="Instead of SAGA_RETENTION: 60d, 500h.")
def command(older_than: str | None) -> None:
    """Archive the sagas that ended long ago, with their logs, and the dead letters that were dealt with as long ago.

    It is safe to repeat, and beside the running system.
    """
    settings = Settings.read()
    try:
        older_s = span(older_than) if older_than else settings.saga_retention
        archived = archive(the_system(), settings, older_s)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--older-than") from None
    letters = archive_dealt_with(the_system(), settings, older_s)
    click.echo(f"{archived} sagas and {letters} dead letters archived")
