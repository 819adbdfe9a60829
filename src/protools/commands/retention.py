"""Archive what ended long ago, from the command line."""

from __future__ import annotations

import click

from pulsaga.located import the_system
from pulsaga.operate.retention import archive
from pulsaga.settings import Settings
from pulsaga.values import span


@click.command()
@click.option("--older-than", metavar="SPAN", help="Instead of SAGA_RETENTION: 60d, 500h.")
def command(older_than: str | None) -> None:
    """Archive the sagas that ended long ago, with their logs; safe to repeat, and beside the running system."""
    settings = Settings.read()
    try:
        archived = archive(the_system(), settings, span(older_than) if older_than else settings.saga_retention)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--older-than") from None
    click.echo(f"{archived} sagas archived")
