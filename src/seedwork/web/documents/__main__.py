"""Write the committed documents anew, unless that would break callers: `make contract`."""

from __future__ import annotations

import click

from pulsaga.web.documents import snapshots


@click.command()
def main() -> None:
    """Write the documents that callers rely on."""
    try:
        for path in snapshots.write(snapshots.derive()):
            click.echo(f"written: {path}")
    except snapshots.Breaking as breaking:
        raise click.ClickException(str(breaking)) from None


if __name__ == "__main__":
    main()
