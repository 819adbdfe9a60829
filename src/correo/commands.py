"""Commands of the command line that show the mails that operators have to know of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from sqlalchemy import ColumnElement, select

from correo.tables import mail
from pulsaga import Listing, Settings, lists, open_database, rfc3339

COLUMNS = ("created_at", "id", "kind", "recipient", "status", "attempts", "due_at", "error")
TIMES = ("created_at", "due_at", "ended_at")


@click.group(epilog="Example: protools mails list")
def mails() -> None:
    """Look at the mails that wait, and at those that were refused."""


@mails.command("list", epilog="Example: protools mails list --failing --watch")
@click.option("--failing", is_flag=True, help="Those alone that were tried in vain and are to be tried again.")
@click.option("--refused", is_flag=True, help="Those that were refused for good, the newest first.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@lists
def list_mails(failing: bool, refused: bool, limit: int) -> Listing:
    """List the mails that wait, the next one first: their last error, and when they are tried again.

    No link and no token of a mail is shown.
    """
    query = select(*(mail.c[name] for name in (*COLUMNS, "username", "ended_at"))).where(_which(failing, refused))
    engine = open_database(Settings.read(), "correo", "write", "owner")
    try:
        with engine.connect() as connection:
            order = mail.c.created_at.desc() if refused else mail.c.due_at
            rows = [_shown(dict(row)) for row in connection.execute(query.order_by(order).limit(limit)).mappings()]
    finally:
        engine.dispose()
    return Listing(COLUMNS, rows, f"{len(rows)} mails")


def _which(failing: bool, refused: bool) -> ColumnElement[bool]:
    if failing and refused:
        raise click.UsageError("--failing or --refused? what is refused is not tried again")
    if refused:
        return mail.c.status == "refused"
    return mail.c.due_at.is_not(None) & (mail.c.error != "" if failing else mail.c.status == "waiting")


def _shown(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**row, **{name: row[name] and rfc3339(row[name]) for name in TIMES}}
