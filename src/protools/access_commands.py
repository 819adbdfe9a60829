"""Offer `protools keys` for machines, `protools token` for people and demos, `protools webhook-secret` for both."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from bff import keys, webhooks
from protools.operators.acting import Act
from protools.operators.commands import acting, operator
from protools.terminal import tell
from seedwork import database
from seedwork.callers import ROLES, Role
from seedwork.delivery import audit
from seedwork.errors import Unavailable
from seedwork.gatekeeper import KEPT_S
from seedwork.messages import UUID7
from seedwork.settings import Settings
from seedwork.tokens import issue
from seedwork.unit_of_work import rfc3339

LIFETIME_H = 8.0

role_option = click.option("--role", type=click.Choice(ROLES), required=True)
subject_option = click.option("--subject", metavar="NAME", required=True, help="In whose name it asks.")


@contextmanager
def _front_door(settings: Settings) -> Iterator[Connection]:
    """Hold a transaction on the front door's write database."""
    engine = database.open_database(settings, "bff", "write", "owner")
    try:
        with engine.begin() as tx:
            yield tx
    except DBAPIError as error:
        raise Unavailable(f"the front door's database does not answer as it should: {error.orig}") from error
    finally:
        engine.dispose()


@click.group("keys")
def keys_group() -> None:
    """Make and revoke the keys by which machines are known at the front door."""


@keys_group.command("create")
@role_option
@subject_option
@acting
def create_key(role: Role, subject: str, who: str | None, why: str) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    settings = Settings.read()
    by = operator(settings, who, why)
    with _front_door(settings) as tx:
        now = database.now(tx)
        try:
            identifier, key = keys.create(tx, subject, role, now)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--subject") from None
        tx.execute(audit.insert().values(Act(by, "create-key", subject).row(now, key=identifier, role=role)))
    click.echo(key)
    click.echo(f"{identifier}: {role} {subject}. It is not shown again; send it as `Authorization: Bearer …`", err=True)


@keys_group.command("list")
def list_keys() -> None:
    """List every key ever made, without what opens."""
    with _front_door(Settings.read()) as tx:
        for row in keys.listed(tx):
            ended = f"revoked {rfc3339(row['revoked_at'])}" if row["revoked_at"] else "good"
            tell(f"{row['id']}  {row['role']:8}  {row['subject']}  {rfc3339(row['created_at'])}  {ended}")


@keys_group.command("revoke")
@click.argument("identifier", metavar="ID")
@acting
def revoke_key(identifier: str, who: str | None, why: str) -> None:
    """Let a key open nothing any more; processes that saw it lately believe it for some seconds."""
    settings = Settings.read()
    by = operator(settings, who, why)
    with _front_door(settings) as tx:
        now = database.now(tx)
        if not UUID7.fullmatch(identifier) or not keys.revoke(tx, identifier, now):
            raise click.ClickException(f"there is no good key {identifier}")
        tx.execute(audit.insert().values(Act(by, "revoke-key", identifier).row(now)))
    click.echo(f"{identifier} opens nothing any more, {KEPT_S:.0f} s from now at the latest")


@click.group("token")
def token_group() -> None:
    """Issue bearer tokens under JWT_SECRET."""


@token_group.command("issue")
@role_option
@subject_option
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=LIFETIME_H, show_default=True)
def issue_token(role: Role, subject: str, hours: float) -> None:
    """Print a token; nothing is kept of it, so it cannot be revoked."""
    try:
        click.echo(issue(Settings.read(), subject, role, hours * 3600))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--subject") from None


@click.command("webhook-secret")
@click.argument("subject")
def webhook_secret(subject: str) -> None:
    """Print the secret by which SUBJECT checks that a callback is ours (Standard Webhooks)."""
    secret = webhooks.secret_of(Settings.read(), subject)
    click.echo(f"whsec_{b64encode(secret).decode()}")
