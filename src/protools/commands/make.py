"""Write what is derived from the code and committed beside it: `protools make`."""

from __future__ import annotations

from typing import get_args

import click

from pulsaga.located import the_system
from pulsaga.settings import Settings, Side
from pulsaga_program.terminal import example


@click.group(epilog=example("make schemas"))
def make() -> None:
    """Write what is derived from the code: schemas, migrations, the documents of the front door."""


@make.command("schemas", epilog=example("make schemas"))
def make_schemas() -> None:
    """Write the Avro schemas that are not committed yet; a committed one is never touched."""
    from pulsaga_program.schemas import write

    for path in write(the_system().messages):
        click.echo(f"written: {path}")


@make.command("migrations", epilog=example("make migrations stock --message 'Count crates'"))
@click.argument("service")
@click.option("--message", default="Change the tables", show_default=True, help="What they change.")
def make_migrations(service: str, message: str) -> None:
    """Write the next migrations of SERVICE from what its tables and the migrated databases differ in."""
    from pulsaga_program.databases import new_migration

    system, settings = the_system(), Settings.read()
    if service not in system.names:
        raise click.BadParameter(f"{service} is not one of {', '.join(system.names)}", param_hint="SERVICE")
    made = [new_migration(system, settings, system[service], side, message) for side in get_args(Side)]
    for path in filter(None, made):
        click.echo(f"written: {path}")
    if not any(made):
        click.echo(f"nothing to write: the tables of {service} are as its migrations make them")


@make.command("documents", epilog=example("make documents"))
def make_documents() -> None:
    """Write the documents that callers rely on, unless that would break them."""
    from pulsaga.web.documents import snapshots

    try:
        for path in snapshots.write(snapshots.derive(the_system()), snapshots.folder_of(the_system())):
            click.echo(f"written: {path}")
    except snapshots.Breaking as breaking:
        raise click.ClickException(str(breaking)) from None
