"""Handle generador's commands: one password per username; revoke or replace exactly the one that is named.

Of the mail it hears when it was sent: from then on a password expires.
"""

from __future__ import annotations

from correo.messages import PasswordMailSent
from generador.domain import VALID, PasswordRow, SecretRow, destroyed, secret_of, state_of
from generador.messages import (
    DropSuccessor,
    GeneratePassword,
    GenerateSuccessor,
    NothingToRevoke,
    PasswordGenerated,
    PasswordRevoked,
    PasswordRotated,
    RetirePassword,
    RevokePassword,
    SuccessorDropped,
    SuccessorGenerated,
)
from generador.tables import password, rotation
from generador.vault import new_password, new_token, seal_password, token_hash, verifier_of
from pulsaga import DomainError, Message, UnitOfWork, printable, seal_text


def generate_password(message: Message[GeneratePassword], uow: UnitOfWork) -> None:
    """Generate a password for a username that has none; refuse with `password-exists`."""
    username = message.body.username
    before = uow.get(password, username)
    if before and before["status"] in VALID:
        raise DomainError("password-exists", f"{printable(username)} already has a password")
    secret, sealed_token = _new_secret(message, uow)
    row: PasswordRow = {**secret, "version": before["version"] + 1 if before else 1, "mailed_at": None}
    uow.put(password, row)
    uow.reply(PasswordGenerated(**state_of(row), sealed_token=sealed_token), username, row["version"])


def _new_secret(
    message: Message[GeneratePassword] | Message[GenerateSuccessor], uow: UnitOfWork
) -> tuple[SecretRow, str]:
    """Draw a password and the token of its link; return how the vault keeps them, and the token sealed for correo."""
    username, plain, token = message.body.username, new_password(), new_token()
    sealed = seal_password(plain, uow.key("VAULT_KEY"), username)
    row: SecretRow = {
        "username": username,
        "command_id": message.id,
        "saga_id": message.saga_id,
        "actor": message.context.actor,
        "status": "issued",
        "token_hash": token_hash(token),
        "sealed_key": sealed.key,
        "sealed_secret": sealed.secret,
        "verifier": verifier_of(plain),
        "issued_at": uow.now,
        "changed_at": uow.now,
    }
    return row, seal_text(token, uow.key("LINK_KEY"), username)


def begin_to_expire(message: Message[PasswordMailSent], uow: UnitOfWork) -> None:
    """Let a password expire from when its mail was sent; one that this mail is not about, or that is gone, stays so."""
    sent = message.body
    row = uow.get(password, sent.username)
    if row and row["saga_id"] == message.saga_id and row["status"] == "issued":
        uow.put(password, {**row, "mailed_at": min(uow.now, max(row["issued_at"], sent.sent_at))})


def revoke_password(message: Message[RevokePassword], uow: UnitOfWork) -> None:
    """Destroy the password that one GeneratePassword made, unless it is gone already."""
    username, undoes = message.body.username, message.body.undoes
    row = uow.get(password, username)
    if row is None or row["command_id"] != undoes or row["status"] not in VALID:
        uow.reply(NothingToRevoke(username, undoes))
        return
    gone: PasswordRow = {**row, **destroyed("revoked", uow.now), "version": row["version"] + 1}
    uow.put(password, gone)
    uow.reply(PasswordRevoked(**state_of(gone)), username, gone["version"])


# --- rotation


def generate_successor(message: Message[GenerateSuccessor], uow: UnitOfWork) -> None:
    """Generate a next password beside the valid one; refuse with `no-password` or `rotation-running`.

    A caller may replace what it asked for itself: with another's it could take the account over.
    """
    username = message.body.username
    valid, beside = uow.get(password, username), uow.get(rotation, username)
    if valid is None or valid["status"] not in VALID or valid["actor"] != message.context.actor:
        raise DomainError("no-password", f"{printable(username)} has no valid password that this caller asked for")
    if beside and beside["status"] == "issued":
        raise DomainError("rotation-running", f"the password of {printable(username)} is being rotated already")
    row, sealed_token = _new_secret(message, uow)
    uow.put(rotation, row)
    uow.reply(SuccessorGenerated(username, message.id, sealed_token))


def drop_successor(message: Message[DropSuccessor], uow: UnitOfWork) -> None:
    """Destroy the successor that one GenerateSuccessor made, unless it is gone already."""
    username, undoes = message.body.username, message.body.undoes
    beside = uow.get(rotation, username)
    if beside and beside["command_id"] == undoes and beside["status"] == "issued":
        uow.put(rotation, {**beside, **destroyed("revoked", uow.now)})
    uow.reply(SuccessorDropped(username, undoes))


def retire_password(message: Message[RetirePassword], uow: UnitOfWork) -> None:
    """Make the successor the valid password and destroy the one before it; refuse with `no-successor`."""
    username = message.body.username
    old, new = uow.get(password, username), uow.get(rotation, username)
    if old is None or new is None or new["command_id"] != message.body.successor or new["status"] != "issued":
        raise DomainError(
            "no-successor", f"no successor of this command waits beside the password of {printable(username)}"
        )
    now = uow.now  # its mail went before, but only now its link can be used
    row: PasswordRow = {**new, "version": old["version"] + 1, "issued_at": now, "changed_at": now, "mailed_at": now}
    uow.put(password, row)
    uow.put(
        rotation, {**secret_of(old), **destroyed("superseded", uow.now)}
    )  # its link is told apart from an unknown one
    uow.reply(PasswordRotated(**state_of(row)), username, row["version"])
