"""Keep the keys of machines: shown once, stored as their SHA-256, good until they are revoked.

A key carries 256 random bits, so one hash without salt or stretching is right.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, insert, select, update

from pulsaga.delivery.messages import new_id
from pulsaga.delivery.transaction.rows import Row
from pulsaga.web.access.callers import Caller, Role, caller_of
from pulsaga.web.access.gatekeeper import KEY_PREFIX
from pulsaga.web.access.tokens import Refused
from pulsaga.web.front_door.tables import api_key

SECRET_BYTES = 32


def hash_of(key: str) -> bytes:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode()).digest()


def find(write: Engine, key: str) -> Caller:
    """Return who holds a key; raise Refused for one that was never made, or was revoked."""
    known = select(api_key.c.subject, api_key.c.role, api_key.c.revoked_at).where(api_key.c.hash == hash_of(key))
    with write.connect() as connection:
        row = connection.execute(known).first()
    if row is None:
        raise Refused("unknown-machine-key")
    if row.revoked_at is not None:
        raise Refused("revoked-machine-key", row.subject)
    return caller_of(row.subject, row.role)


def create(tx: Connection, subject: str, role: Role, now: float, identifier: str = "") -> tuple[str, str]:
    """Make a key; return its id and the key itself, which nobody can read again. Raise ValueError for no subject."""
    caller, key = caller_of(subject, role), KEY_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    identifier = identifier or new_id()
    row = {"id": identifier, "subject": caller.subject, "role": caller.role, "hash": hash_of(key), "created_at": now}
    tx.execute(insert(api_key).values(row))
    return identifier, key


def revoke(tx: Connection, identifier: str, now: float) -> bool:
    """Let a key open nothing any more; return False when there is no such key, or it is revoked already."""
    valid = (api_key.c.id == identifier) & api_key.c.revoked_at.is_(None)
    return tx.execute(update(api_key).where(valid).values(revoked_at=now)).rowcount == 1


def listed(connection: Connection) -> Sequence[Row]:
    """Return every key ever made, the oldest first, without what opens."""
    shown = select(api_key.c.id, api_key.c.subject, api_key.c.role, api_key.c.created_at, api_key.c.revoked_at)
    return [dict(row) for row in connection.execute(shown.order_by(api_key.c.id)).mappings()]
