"""Verify passwords: the same work and the same answer whoever is named, and slower after each failure.

Failures are counted in the write database, so that every web process knows of all. They name nobody: their key is an
HMAC of what was tried. Two guesses at once by the same name or address: the second is told to come back.
"""

from __future__ import annotations

import hmac

from sqlalchemy import delete, select

from generador.tables import failed_attempt, password
from generador.vault import verifier_of
from seedwork.errors import ProtoolsError, Stale
from seedwork.loop import Duty
from seedwork.rows import Row
from seedwork.service import Runtime
from seedwork.unit_of_work import UnitOfWork

FREE = {"user": 5, "address": 1000}
"""Failures up to which there is no delay; an address may be that of an application, or a proxy, with many users."""
LONGEST_DELAY_S = 60.0
"""Short: 145 random bits are not guessed at any rate, and whoever fails on purpose locks the user out so long."""
FORGET_S = 3600.0
"""Seconds after which failures are forgotten."""
PAGE = 1000
NO_VERIFIER = bytes(32)
"""What nobody's password is known by: no SHA-256 is known to be it."""


class TooManyAttempts(ProtoolsError):
    """Raised when the next attempt is not yet due."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many failed attempts; {wait_s:.0f} s to wait")
        self.wait_s = wait_s


def verify(runtime: Runtime, username: str, given: str, address: str) -> bool:
    """Tell whether this is the user's valid password; raise TooManyAttempts before it is looked at."""
    key = runtime.settings.key("INTERNAL_TOKEN")
    kinds = {_key_of(key, kind, name): kind for kind, name in (("user", username), ("address", address))}

    def work(uow: UnitOfWork) -> bool:
        rows = _failures(uow, kinds)
        kept = uow.values(select(password.c.verifier).where(password.c.username == username))
        known = hmac.compare_digest(next(iter(kept), None) or NO_VERIFIER, verifier_of(given))
        if not known:
            for row in rows:
                uow.put(failed_attempt, _failed_again(row, FREE[kinds[row["key"]]], uow.now))
        elif rows[0]["failures"]:
            uow.remove(failed_attempt, rows[0]["key"])  # the user's; an address does not clear itself by one success
        return known

    try:
        return runtime.relay.run(work)
    except Stale:
        raise TooManyAttempts(1.0) from None


def _key_of(key: bytes, kind: str, name: str) -> str:
    return hmac.digest(key, f"{kind}:{name}".encode(), "sha256").hex()


def _failures(uow: UnitOfWork, keys: dict[str, str]) -> list[Row]:
    """Return what failed before, locked; raise TooManyAttempts when the next attempt is not yet due."""
    uow.load((failed_attempt, key) for key in keys)
    rows = [_remembered(uow, key) for key in keys]
    if (wait_s := max(row["again_at"] for row in rows) - uow.now) > 0:
        raise TooManyAttempts(wait_s)
    return rows


def _remembered(uow: UnitOfWork, key: str) -> Row:
    row = uow.get(failed_attempt, key)
    if row is None or row["again_at"] + FORGET_S < uow.now:
        return {"key": key, "failures": 0, "again_at": 0.0}
    return row


def _failed_again(row: Row, free: int, now: float) -> Row:
    failures = row["failures"] + 1
    delay_s = min(LONGEST_DELAY_S, 2.0 ** (failures - free)) if failures >= free else 0.0
    return {**row, "failures": failures, "again_at": now + delay_s}


def forget_attempts(runtime: Runtime) -> Duty:
    """Delete the failures that count no more."""

    def work(uow: UnitOfWork) -> int:
        old = select(failed_attempt.c.key).where(failed_attempt.c.again_at < uow.now - FORGET_S).limit(PAGE)
        gone = delete(failed_attempt).where(failed_attempt.c.key.in_(old)).returning(failed_attempt.c.key)
        return len(uow.values(gone))

    return Duty("attempts", lambda: runtime.relay.run_pages(work, PAGE), every_s=LONGEST_DELAY_S)
