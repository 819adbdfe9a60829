"""Destroy what nobody revealed in time."""

from __future__ import annotations

from generador.domain import context_of, destroyed, state_of
from generador.messages import PasswordExpired
from generador.tables import password
from seedwork.loop import Duty
from seedwork.service import Runtime
from seedwork.unit_of_work import UnitOfWork

PAGE = 200
LONGEST_SLEEP_S = 60.0
LOOKS_PER_TTL = 20


def expire_passwords(runtime: Runtime) -> Duty:
    """Destroy every secret that was not revealed within REVEAL_TTL, at most a twentieth of it later, or a minute."""
    ttl_s = runtime.settings.reveal_ttl

    def work(uow: UnitOfWork) -> int:
        return _expire(uow, ttl_s)

    return Duty(
        "expiry", lambda: runtime.relay.run_pages(work, PAGE), every_s=min(LONGEST_SLEEP_S, ttl_s / LOOKS_PER_TTL)
    )


def _expire(uow: UnitOfWork, ttl_s: float) -> int:
    due = password.c.sealed_key.is_not(None) & (password.c.issued_at <= uow.now - ttl_s)
    rows = uow.claim(password, due, password.c.issued_at, PAGE)
    for row in rows:
        gone = {**row, **destroyed("expired", uow.now), "version": row["version"] + 1}
        uow.put(password, gone)
        expired = PasswordExpired(**state_of(gone))
        uow.record(expired, gone["username"], gone["version"], context=context_of(gone))
    return len(rows)
