"""Handle generador's commands: generate one password per username, revoke exactly the one a command made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Table

from generador.domain import VALID, destroyed, state_of
from generador.expiry import expire_passwords
from generador.messages import GeneratePassword, NothingToRevoke, PasswordGenerated, PasswordRevoked, RevokePassword
from generador.tables import password
from generador.vault import new_password, new_token, seal_password, seal_token, token_hash
from seedwork.errors import DomainError
from seedwork.inbox import Handler
from seedwork.messages import Message
from seedwork.unit_of_work import UnitOfWork


def generate_password(message: Message, uow: UnitOfWork) -> None:
    """Generate a password for a username that has none; refuse with `password-exists`."""
    username = message.body.username
    before = uow.get(password, username)
    if before and before["status"] in VALID:
        raise DomainError("password-exists", f"{username} already has a password")
    token = new_token()
    sealed = seal_password(new_password(), uow.key("VAULT_KEY"), username)
    row = {
        "username": username,
        "version": before["version"] + 1 if before else 1,
        "command_id": message.id,
        "saga_id": message.saga_id,
        "actor": message.context.actor,
        "status": "issued",
        "token_hash": token_hash(token),
        "sealed_key": sealed.key,
        "sealed_secret": sealed.secret,
        "issued_at": uow.now,
        "changed_at": uow.now,
    }
    uow.put(password, row)
    sealed_token = seal_token(token, uow.key("LINK_KEY"), username)
    uow.reply(PasswordGenerated(**state_of(row), sealed_token=sealed_token), username, row["version"])


def revoke_password(message: Message, uow: UnitOfWork) -> None:
    """Destroy the password that one GeneratePassword made; when that has not come yet, see to it that it is refused."""
    username, undoes = message.body.username, message.body.undoes
    if uow.seen(undoes) is None:
        uow.remember(undoes, None)
    row = uow.get(password, username)
    if row is None or row["command_id"] != undoes or row["status"] not in VALID:
        uow.reply(NothingToRevoke(username, undoes))
        return
    row = {**row, **destroyed("revoked", uow.now), "version": row["version"] + 1}
    uow.put(password, row)
    uow.reply(PasswordRevoked(**state_of(row)), username, row["version"])


def _of_username(message: Message) -> Iterable[tuple[Table, Any]]:
    return ((password, message.body.username),)


HANDLERS = {
    GeneratePassword: Handler(generate_password, reads=_of_username),
    RevokePassword: Handler(revoke_password, reads=_of_username),
}

DUTIES = (expire_passwords,)
