"""Forget the links of forgotten passwords once they have long been over."""

from __future__ import annotations

from pulsaga import Duty, Runtime, UnitOfWork
from usuarios.tables import reset

FORGET_S = 7 * 86400.0
"""Seconds for which a link's use is known: so long its bearer is told that it was used."""
EVERY_S = 60.0
PAGE = 1000


def forget_resets(runtime: Runtime) -> Duty:
    """Delete links that were made long ago."""

    def work(uow: UnitOfWork) -> int:
        rows = uow.claim(reset, reset.c.created_at < uow.now - FORGET_S, reset.c.created_at, PAGE)
        for row in rows:
            uow.remove(reset, row["id"])
        return len(rows)

    return Duty("resets", lambda: runtime.transactions.run_pages(work, PAGE), every_s=EVERY_S)
