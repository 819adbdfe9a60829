"""Reveal a password once."""

from __future__ import annotations

from sqlalchemy import select, union_all

from generador.domain import PasswordRow, SecretRow, context_of, is_expired, shown, state_of
from generador.messages import PasswordRevealed
from generador.settings import GeneradorSettings
from generador.tables import password, rotation
from generador.vault import Sealed, open_password, token_hash
from pulsaga import DomainError, Runtime, UnitOfWork

GONE = {
    "issued": "expired",
    "revealed": "already-revealed",
    "revoked": "revoked",
    "expired": "expired",
    "superseded": "superseded",
}
"""What is said of a link that cannot be used any more, by its password's status."""


def reveal(runtime: Runtime, token: str) -> tuple[str, str]:
    """Return username and password for a link's token, and destroy the plain text in the same transaction.

    Raise DomainError: `unknown-token`; `not-yet-valid` while a rotation runs; or, for good, `already-revealed`,
    `revoked`, `expired`, `superseded`.
    """

    def work(uow: UnitOfWork) -> tuple[str, str]:
        row = _to_reveal(uow, token_hash(token), runtime.settings.of(GeneradorSettings).reveal_ttl)
        username = row["username"]
        plain = open_password(
            Sealed(row["sealed_key"] or b"", row["sealed_secret"]), runtime.settings.keys("VAULT_KEY"), username
        )
        gone: PasswordRow = {**row, **shown("revealed", uow.now), "version": row["version"] + 1}
        uow.put(password, gone)
        uow.record(PasswordRevealed(**state_of(gone)), username, gone["version"], context=context_of(gone))
        return username, plain

    revealed, outgoing = runtime.transactions.commit(work)
    runtime.transactions.outbox.publish_later(outgoing)
    return revealed


def _to_reveal(uow: UnitOfWork, digest: bytes, ttl_s: float) -> PasswordRow:
    """Return the locked row of the valid password behind a link; raise DomainError when it must not be shown."""
    valid, beside = _locked(uow, digest)
    if valid and valid["token_hash"] == digest:
        if valid["status"] == "issued" and not is_expired(valid["mailed_at"], ttl_s, uow.now):
            return valid
        raise _gone(valid)
    if beside is None or beside["token_hash"] != digest:
        raise _unknown()
    if beside["status"] == "issued":
        raise DomainError("not-yet-valid", "this password is not valid yet; try again in a moment")
    raise _gone(beside)


def _gone(row: SecretRow) -> DomainError:
    return DomainError(GONE[row["status"]], "this link can no longer be used")


def _locked(uow: UnitOfWork, digest: bytes) -> tuple[PasswordRow | None, SecretRow | None]:
    """Lock both rows of the user whose link this is: a rotation moves secrets from one to the other."""
    links = [select(table.c.username).where(table.c.token_hash == digest) for table in (password, rotation)]
    for username in uow.values(union_all(*links)):
        uow.load(((password, username), (rotation, username)))
        return uow.get(password, username), uow.get(rotation, username)
    raise _unknown()


def _unknown() -> DomainError:
    return DomainError("unknown-token", "no password belongs to this link")
