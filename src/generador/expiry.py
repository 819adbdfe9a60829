"""Destroy what nobody revealed in time. Time counts from the mail: before it nobody could use the link."""

from __future__ import annotations

import structlog

from generador.domain import PasswordRow, context_of, destroyed, state_of
from generador.messages import PasswordExpired
from generador.settings import GeneradorSettings
from generador.tables import password
from pulsaga import Duty, Runtime, UnitOfWork, printable

log = structlog.get_logger()
PAGE = 200
LONGEST_SLEEP_S = 60.0
LOOKS_PER_TTL = 20


def expire_passwords(runtime: Runtime) -> Duty:
    """Destroy every secret that was not revealed within REVEAL_TTL, at most a twentieth of it later, or a minute."""
    ttl_s = runtime.settings.of(GeneradorSettings).reveal_ttl

    def work(uow: UnitOfWork) -> int:
        return _expire(uow, ttl_s)

    return Duty(
        "expiry",
        lambda: runtime.transactions.run_pages(work, PAGE),
        every_s=min(LONGEST_SLEEP_S, ttl_s / LOOKS_PER_TTL),
    )


def _expire(uow: UnitOfWork, ttl_s: float) -> int:
    """Expire a page of passwords; return how many there were, or 0 when none could be expired."""
    due = password.c.sealed_key.is_not(None) & (password.c.mailed_at <= uow.now - ttl_s)
    rows = uow.claim(password, due, password.c.mailed_at, PAGE)
    return len(rows) if sum(_is_destroyed(uow, row) for row in rows) else 0


def _is_destroyed(uow: UnitOfWork, row: PasswordRow) -> bool:
    try:
        _destroy(uow, row)
    except Exception:  # one password of which nothing can be told must not keep the others
        log.exception("password not expired", username=printable(row["username"]))
        uow.drop()
        return False
    uow.keep()
    return True


def _destroy(uow: UnitOfWork, row: PasswordRow) -> None:
    gone: PasswordRow = {**row, **destroyed("expired", uow.now), "version": row["version"] + 1}
    uow.put(password, gone)
    uow.record(PasswordExpired(**state_of(gone)), gone["username"], gone["version"], context=context_of(gone))
