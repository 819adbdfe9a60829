"""Write the committed documents anew: `make contract`."""

from __future__ import annotations

import click

from protools.contract import snapshots

if __name__ == "__main__":
    for path in snapshots.write(snapshots.derive()):
        click.echo(f"written: {path}")
