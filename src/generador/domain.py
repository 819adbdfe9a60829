"""What a password's row means: when it is valid, what destroying its secret leaves, what of it is public."""

from __future__ import annotations

from typing import Any, TypedDict

from pulsaga import Context

VALID = ("issued", "revealed")
"""What counts as having a password; one that expired was seen by nobody, so that a next one may be issued."""


class ShownSecret(TypedDict):
    """What changes in a secret when its plain text is destroyed."""

    status: str
    sealed_key: bytes | None
    sealed_secret: bytes
    changed_at: float


class DestroyedSecret(ShownSecret):
    """What changes in a secret when it is not valid any more."""

    verifier: bytes | None


class SecretRow(DestroyedSecret):
    """A secret, of the password or of the one beside it."""

    username: str
    command_id: str
    saga_id: str
    actor: str | None
    token_hash: bytes | None
    issued_at: float


class PasswordRow(SecretRow):
    """The password of a user."""

    version: int
    mailed_at: float | None


def is_expired(mailed_at: float | None, ttl_s: float, now: float) -> bool:
    """Tell whether an unseen password could be seen for `ttl_s` seconds; before its mail it does not age."""
    return mailed_at is not None and mailed_at + ttl_s <= now


def destroyed(status: str, at: float) -> DestroyedSecret:
    """Return what changes in a password's row when it is not valid any more."""
    return {**shown(status, at), "verifier": None}


def shown(status: str, at: float) -> ShownSecret:
    """Return what changes in a password's row when its plain text is destroyed, for it was shown."""
    return {"status": status, "sealed_key": None, "sealed_secret": b"", "changed_at": at}


def secret_of(row: PasswordRow) -> SecretRow:
    """Return a password's secret as it is kept beside the password."""
    return {
        "username": row["username"],
        "command_id": row["command_id"],
        "saga_id": row["saga_id"],
        "actor": row["actor"],
        "status": row["status"],
        "token_hash": row["token_hash"],
        "sealed_key": row["sealed_key"],
        "sealed_secret": row["sealed_secret"],
        "verifier": row["verifier"],
        "issued_at": row["issued_at"],
        "changed_at": row["changed_at"],
    }


def state_of(row: PasswordRow) -> dict[str, Any]:
    """Return the public state of a password's row."""
    return {
        "username": row["username"],
        "status": row["status"],
        "issued_at": row["issued_at"],
        "changed_at": row["changed_at"],
    }


def context_of(row: SecretRow) -> Context:
    """Return the context in which something is told of a password outside any message: its saga, and who asked."""
    return Context(row["saga_id"], actor=row["actor"])
