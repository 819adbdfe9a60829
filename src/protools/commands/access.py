"""Offer `protools keys` for machines, `protools token` for people and demos, `protools webhook-secret` for both."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import click
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from pulsaga.delivery import database
from pulsaga.delivery.messages import UUID7, new_id
from pulsaga.delivery.tables import audit
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import rfc3339
from pulsaga.errors import Unavailable
from pulsaga.located import the_system
from pulsaga.operate.acting import Act, Runtimes, carry_out
from pulsaga.operate.listing import Listing, lists
from pulsaga.running.runtime import open_runtime
from pulsaga.running.telling import incident_secret
from pulsaga.settings import Settings
from pulsaga.web.access import keys
from pulsaga.web.access.callers import ROLES, Role, caller_of
from pulsaga.web.access.gatekeeper import KEPT_S
from pulsaga.web.access.tokens import issue
from pulsaga.web.front_door.callbacks import webhooks
from pulsaga_program.commands.operators import NOT_YET_AGREED, acting, operator, the_front_door
from pulsaga_program.terminal import SOME_ID, example

LIFETIME_H = 8.0

role_option = click.option("--role", type=click.Choice(ROLES), required=True)
subject_option = click.option("--subject", metavar="NAME", required=True, help="In whose name it asks.")


@contextmanager
def _front_door(settings: Settings) -> Iterator[Connection]:
    """Hold a transaction on the front door's write database."""
    engine = database.open_database(settings, the_front_door().name, "write", "owner")
    try:
        with engine.begin() as tx:
            yield tx
    except DBAPIError as error:
        raise Unavailable(f"the front door's database does not answer as it should: {error.orig}") from error
    finally:
        engine.dispose()


@click.group("keys", epilog=example("keys list"))
def keys_group() -> None:
    """Make and revoke the keys by which machines are known at the front door."""


@keys_group.command("create", epilog=example('keys create --role caller --subject shop --why "a new machine"'))
@role_option
@subject_option
@acting
def create_key(role: Role, subject: str, who: str | None, why: str) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    settings = Settings.read()
    _check(subject, role)
    act = Act(operator(settings, who, why), "create-key", subject, {"role": role})
    with _front_door(settings) as tx:
        now, identifier = database.now(tx, settings.clock_offset), new_id()
        agreed = carry_out(_runtimes(settings), tx, act, now, key=identifier)
        key = keys.create(tx, subject, role, now, identifier)[1] if agreed else ""
    _stop_unless(agreed, f"key for the {role} {subject}")
    click.echo(key)
    click.echo(f"{identifier}: {role} {subject}. It is not shown again; send it as `Authorization: Bearer …`", err=True)


def _check(subject: str, role: Role) -> None:
    try:
        caller_of(subject, role)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--subject") from None


def _runtimes(settings: Settings) -> Runtimes:
    return Runtimes(the_system(), settings, partial(open_runtime, the_system(), settings))


def _stop_unless(agreed: bool, what: str) -> None:
    """Exit with 3, and nothing on standard output, while another operator has to agree."""
    if not agreed:
        click.echo(f"not done yet, recorded: a second operator has to do the same ({what})", err=True)
        sys.exit(NOT_YET_AGREED)


@keys_group.command("list", epilog=example("keys list"))
@lists
def list_keys() -> Listing:
    """List every key ever made, without what opens."""
    with _front_door(Settings.read()) as tx:
        rows = [_shown(row) for row in keys.listed(tx)]
    return Listing(("id", "role", "subject", "created_at", "state"), rows, f"{len(rows)} keys")


def _shown(row: Row) -> Row:
    times = {name: row[name] and rfc3339(row[name]) for name in ("created_at", "revoked_at")}
    state = f"revoked {times['revoked_at']}" if times["revoked_at"] else "good"
    return {"id": row["id"], "role": row["role"], "subject": row["subject"], **times, "state": state}


@keys_group.command("revoke", epilog=example(f'keys revoke {SOME_ID} --why "in a public log"'))
@click.argument("identifier", metavar="ID")
@acting
def revoke_key(identifier: str, who: str | None, why: str) -> None:
    """Let a key open nothing any more; processes that saw it lately believe it for some seconds.

    One operator does it, whatever OPERATOR_APPROVALS says: a key that leaked does not wait for a second one.
    """
    settings = Settings.read()
    by = operator(settings, who, why)
    with _front_door(settings) as tx:
        now = database.now(tx, settings.clock_offset)
        if not UUID7.fullmatch(identifier) or not keys.revoke(tx, identifier, now):
            raise click.ClickException(f"there is no good key {identifier}")
        tx.execute(audit.insert().values(Act(by, "revoke-key", identifier).row(now)))
    click.echo(f"{identifier} opens nothing any more, {KEPT_S:.0f} s from now at the latest")


@click.group("token", epilog=example("token issue --role operator --subject me"))
def token_group() -> None:
    """Issue bearer tokens under JWT_SECRET."""


@token_group.command("issue", epilog=example("token issue --role operator --subject me"))
@role_option
@subject_option
@click.option("--scope", "scopes", metavar="NAME", multiple=True, help="What it is for, as orders:write.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=LIFETIME_H, show_default=True)
@click.option("--as", "who", metavar="NAME", help="Who acts, where OPERATOR_APPROVALS asks for several.")
@click.option("--why", default="", help="The reason, for the audit; needed where OPERATOR_APPROVALS asks for several.")
def issue_token(role: Role, subject: str, scopes: tuple[str, ...], hours: float, who: str | None, why: str) -> None:
    """Print a token; nothing is kept of it, so it cannot be revoked."""
    settings = Settings.read()
    _check(subject, role)
    if settings.operator_approvals > 1:
        if not why.strip():
            raise click.UsageError("a reason is needed, --why: OPERATOR_APPROVALS asks for several operators")
        act = Act(
            operator(settings, who, why.strip()),
            "issue-token",
            subject,
            {"role": role, "hours": hours} | ({"scopes": [*scopes]} if scopes else {}),
        )
        with _front_door(settings) as tx:
            agreed = carry_out(_runtimes(settings), tx, act, database.now(tx, settings.clock_offset))
        _stop_unless(agreed, f"token for the {role} {subject}")
    try:
        click.echo(issue(settings, subject, role, hours * 3600, scopes))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@click.command("webhook-secret", epilog=example("webhook-secret shop"))
@click.argument("subject", required=False)
@click.option("--incidents", "of_incidents", is_flag=True, help="The secret by which INCIDENT_WEBHOOK checks calls.")
def webhook_secret(subject: str | None, of_incidents: bool) -> None:
    """Print the secret by which SUBJECT checks that a callback is ours (Standard Webhooks)."""
    if (subject is None) is not of_incidents:
        raise click.UsageError("give a SUBJECT, or --incidents")
    secret = incident_secret(Settings.read()) if subject is None else webhooks.secret_of(Settings.read(), subject)
    click.echo(f"whsec_{b64encode(secret).decode()}")
