"""Verify passwords: the same work and the same answer whoever is named, and only so many wrong guesses in a time."""

from __future__ import annotations

import hmac

from sqlalchemy import select

from generador.tables import guess_budget, password
from generador.vault import verifier_of
from pulsaga import Runtime, Stale, UnitOfWork
from pulsaga.web import Guesses, TooManyAttempts

NO_VERIFIER = bytes(32)
"""What nobody's password is known by: no SHA-256 is known to be it."""
GUESSES = Guesses(guess_budget)


def verify(runtime: Runtime, username: str, given: str, address: str, caller: str) -> str | None:
    """Return the id of the saga that issued this password, where it is the user's valid one, else None.

    Raise TooManyAttempts before it is looked at.
    """
    try:
        return runtime.transactions.run(lambda uow: _attempt(uow, username, given, (caller, address)))
    except Stale:  # a budget was forgotten at this very moment
        raise TooManyAttempts(1.0) from None


def _attempt(uow: UnitOfWork, username: str, given: str, source: tuple[str, str]) -> str | None:
    query = select(password.c.verifier, password.c.saga_id).where(password.c.username == username)

    def opened() -> str | None:
        verifier, saga_id = next(iter(uow.tx.execute(query)), (None, None))
        return saga_id if hmac.compare_digest(verifier or NO_VERIFIER, verifier_of(given)) else None

    return GUESSES.attempt(uow, username, source, opened)
