"""Say what a password's row means: when it is valid, what destroying its secret leaves, what of it is public."""

from __future__ import annotations

from typing import Any

from pulsaga import Context

VALID = ("issued", "revealed")
"""What counts as having a password; one that expired was seen by nobody, so that a next one may be issued."""


def is_expired(row: dict[str, Any], ttl_s: float, now: float) -> bool:
    """Tell whether an unseen password could be seen for `ttl_s` seconds; before its mail it does not age."""
    return row["mailed_at"] is not None and row["mailed_at"] + ttl_s <= now


def destroyed(status: str, at: float) -> dict[str, Any]:
    """Return what changes in a password's row when it is not valid any more."""
    return {**shown(status, at), "verifier": None}


def shown(status: str, at: float) -> dict[str, Any]:
    """Return what changes in a password's row when its plain text is destroyed, for it was shown."""
    return {"status": status, "sealed_key": None, "sealed_secret": b"", "changed_at": at}


def state_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the public state of a password's row."""
    return {name: row[name] for name in ("username", "status", "issued_at", "changed_at")}


def context_of(row: dict[str, Any]) -> Context:
    """Return the context in which something is told of a password outside any message: its saga, and who asked."""
    return Context(row["saga_id"], actor=row["actor"])
