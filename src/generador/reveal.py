"""Reveal a password once."""

from __future__ import annotations

from generador.domain import context_of, destroyed, state_of
from generador.messages import PasswordRevealed
from generador.tables import password
from generador.vault import Sealed, open_password, token_hash
from seedwork.errors import DomainError
from seedwork.service import Runtime
from seedwork.unit_of_work import UnitOfWork


def reveal(runtime: Runtime, token: str) -> tuple[str, str]:
    """Return username and password for a link's token, and destroy the secret in the same transaction.

    Raise DomainError: `unknown-token`, or `already-revealed`, `revoked`, `expired`.
    """

    def work(uow: UnitOfWork) -> tuple[str, str]:
        row = uow.find(password, password.c.token_hash == token_hash(token))
        if row is None:
            raise DomainError("unknown-token", "no password belongs to this link")
        if row["issued_at"] + runtime.settings.reveal_ttl <= uow.now and row["status"] == "issued":
            row["status"] = "expired"
        if row["status"] != "issued":
            code = "already-revealed" if row["status"] == "revealed" else row["status"]
            raise DomainError(code, "this link can no longer be used")
        username = row["username"]
        plain = open_password(Sealed(row["sealed_key"], row["sealed_secret"]), uow.key("VAULT_KEY"), username)
        row = {**row, **destroyed("revealed", uow.now), "version": row["version"] + 1}
        uow.put(password, row)
        uow.record(PasswordRevealed(**state_of(row)), username, row["version"], context=context_of(row))
        return username, plain

    revealed, outgoing = runtime.relay.commit(work)
    runtime.relay.publish_later(outgoing)
    return revealed
