"""What a user's row means: what of it is told, what changes with a password or an address."""

from __future__ import annotations

import re
from typing import TypedDict

from usuarios.messages import UserChanged

ADDRESS = re.compile(r"[!#-~]{1,64}@[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)+")
"""Plain ASCII and unquoted (RFC 5321 §4.1.2); correo looks closer."""
ADDRESS_LENGTH = 254


class UserRow(TypedDict):
    """A user."""

    id: str
    version: int
    username: str
    email: str
    email_key: str
    first_name: str
    last_name: str
    phone: str
    admin: bool
    active: bool
    password_hash: str | None
    sessions_not_before: float
    proposed_email: str | None
    proposed_by: str | None
    created_at: float
    changed_at: float


def state_of(row: UserRow) -> UserChanged:
    """Return what is told of a user."""
    return UserChanged(
        user_id=row["id"],
        username=row["username"],
        first_name=row["first_name"],
        last_name=row["last_name"],
        phone=row["phone"],
        email=row["email"],
        admin=row["admin"],
        active=row["active"],
        sessions_not_before=row["sessions_not_before"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )


def changed(row: UserRow, at: float) -> UserRow:
    """Return a user's row in its next version."""
    return {**row, "version": row["version"] + 1, "changed_at": at}


def with_password(row: UserRow, password_hash: str, at: float) -> UserRow:
    """Return a user's row with another password: whoever was logged in is so no more, and changes no address."""
    return {**ended(row, at), "password_hash": password_hash}


def ended(row: UserRow, at: float) -> UserRow:
    """Return a user's row with every session over, and what was begun in one: an address that waits is dropped."""
    return {**changed(row, at), "sessions_not_before": at, "proposed_email": None, "proposed_by": None}


def is_address(address: str) -> bool:
    """Tell whether mail may be sent to an address, as far as its form says."""
    return ADDRESS.fullmatch(address) is not None and len(address) <= ADDRESS_LENGTH


def email_key(address: str) -> str:
    """Return the form of an address in which two spellings of one mailbox are equal.

    Case is told apart by hardly any server (RFC 5321 §2.4 lets it), and never by people.
    """
    return address.casefold()
