"""Forget the sessions that are over."""

from __future__ import annotations

from pulsaga import Duty, Runtime, UnitOfWork
from usuarios.sessions.tables import sesion

FORGET_S = 24 * 3600.0
"""Seconds after its end for which a session is kept: clocks differ."""
FORGET_EVERY_S = 60.0
PAGE = 1000


def forget_sessions(runtime: Runtime) -> Duty:
    """Delete the sessions whose tokens have long run out."""

    def work(uow: UnitOfWork) -> int:
        rows = uow.claim(sesion, sesion.c.expires_at < uow.now - FORGET_S, sesion.c.expires_at, PAGE)
        for row in rows:
            uow.remove(sesion, row["jti"])
        return len(rows)

    return Duty("sessions", lambda: runtime.transactions.run_pages(work, PAGE), every_s=FORGET_EVERY_S)
