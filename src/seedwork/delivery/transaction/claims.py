"""Hold rows while something slow is done with them outside any transaction: claim them, do it, report on what is held.

The table has the columns `claim`, a token, and `due_at`, null once nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import cast

import structlog
from sqlalchemy import update

from pulsaga.delivery.blame import by_halves
from pulsaga.delivery.incidents import open_incident
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.transaction.rows import R, Rows
from pulsaga.delivery.transaction.transactions import Transactions
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import Unavailable
from pulsaga.text import describe

log = structlog.get_logger()
ClaimReport = Callable[[UnitOfWork, Sequence[R]], object]
"""Write what came of claimed rows, of those that are still held."""


def claim(uow: UnitOfWork, table: Rows[R], limit: int, for_s: float, but: Collection[str] = ()) -> list[R]:
    """Take rows that are due, under one token; others leave them alone for so many seconds.

    `but` names rows that this transaction has just reported on: in the database they are due still.
    """
    due = (table.c.due_at.is_not(None)) & (table.c.due_at <= uow.now)
    rows = [row for row in uow.claim(table, due, table.c.due_at, limit) if row["id"] not in but]
    token = new_id()
    claimed = [cast(R, {**row, "claim": token, "due_at": uow.now + for_s}) for row in rows]
    for row in claimed:
        uow.put(table, row)
    return claimed


def held(uow: UnitOfWork, table: Rows[R], claimed: Sequence[R]) -> Iterator[R]:
    """Yield the rows that are still held, as they are now, without their token; another's are left to that one.

    So are rows that another transaction has locked: the others' reports must not wait for it, or be lost with it.
    """
    uow.pass_locked = True
    uow.load((table, row["id"]) for row in claimed)
    for before in claimed:
        row = _unlocked(uow, table, before["id"])
        if row is None or row["claim"] != before["claim"]:
            log.warning("claim lost, not reported", table=table.name, id=before["id"])
        else:
            yield cast(R, {**row, "claim": None})


def report_apart(
    transactions: Transactions, table: Rows[R], claimed: Sequence[R], report: ClaimReport[R], rest_s: float
) -> None:
    """Report on claimed rows in one transaction; when the database refuses that, by halves, down to the row at fault.

    That one is put off for `rest_s` seconds, with an incident: what came of it cannot be kept, so it is done again.
    """
    by_halves(
        claimed,
        lambda rows: transactions.run(lambda uow: report(uow, rows)),
        lambda row, error: transactions.run(partial(_put_off, table, row, error, rest_s)),
    )


def _put_off(table: Rows[R], row: R, error: Exception, rest_s: float, uow: UnitOfWork) -> None:
    log.error("not reported", table=table.name, id=row["id"], error=describe(error))
    open_incident(uow, "unreported", row["id"], type(error).__name__, describe(error))
    ours = (table.c.id == row["id"]) & (table.c.claim == row["claim"])
    uow.values(update(table).where(ours).values(due_at=uow.now + rest_s, claim=None).returning(table.c.id))


def _unlocked(uow: UnitOfWork, table: Rows[R], key: str) -> R | None:
    try:
        return uow.get(table, key)
    except Unavailable:
        return None
