"""Keep the passwords that people choose as argon2id (RFC 9106), and know them again."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from pulsaga import Unavailable

T = TypeVar("T")
AT_ONCE = 2
"""Passwords that one process hashes at once: each takes 64 MiB and some 50 ms of a core."""
WAIT_S = 5.0
_ROOM = threading.BoundedSemaphore(AT_ONCE)
_HASHER = PasswordHasher()
"""The library's defaults: the second choice of RFC 9106 §4, 3 rounds over 64 MiB."""


def hash_of(password: str) -> str:
    """Return how a password is kept; raise Unavailable when too many are being hashed."""
    return _with_room(lambda: _HASHER.hash(_normal(password)))


def is_password(password: str, kept: str | None) -> bool:
    """Tell whether a password is the one that is kept; without one it takes as long to say no."""
    return _with_room(lambda: _verified(password, kept or _nobodys())) and bool(kept)


def _verified(password: str, kept: str) -> bool:
    try:
        return _HASHER.verify(kept, _normal(password))
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys() -> str:
    return _HASHER.hash("nobody's")


def _normal(password: str) -> str:
    """Return a password as every keyboard writes it (NIST SP 800-63B §5.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


def _with_room(work: Callable[[], T]) -> T:
    if not _ROOM.acquire(timeout=WAIT_S):
        raise Unavailable("too many passwords are being looked at")
    try:
        return work()
    finally:
        _ROOM.release()
