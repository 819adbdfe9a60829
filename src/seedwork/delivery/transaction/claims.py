"""Hold rows while something slow is done with them outside any transaction: claim them, do it, report on what is held.

The table has the columns `claim`, a token, and `due_at`, null once nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import cast

import structlog
from sqlalchemy import update

from pulsaga.delivery.blame import by_halves, verdict
from pulsaga.delivery.incidents import open_incident_about
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.transaction.rows import R, Rows
from pulsaga.delivery.transaction.transactions import Transactions
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import Unavailable
from pulsaga.text import describe

log = structlog.get_logger()
ClaimReport = Callable[[UnitOfWork, R], object]
"""Write what came of one claimed row, as it is now, without its token."""


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


def report_held(
    uow: UnitOfWork, table: Rows[R], claimed: Sequence[R], report: ClaimReport[R], *, pass_locked: bool = True
) -> list[R]:
    """Report on the rows that are still held; another's are left to that one.

    Return those that another transaction has locked: the others' reports do not wait for it, unless you say so.
    """
    uow.pass_locked = pass_locked
    uow.load((table, row["id"]) for row in claimed)
    locked = []
    for before in claimed:
        try:
            row = uow.get(table, before["id"])
        except Unavailable:
            locked.append(before)
            continue
        if row is None or row["claim"] != before["claim"]:
            log.warning("claim lost, not reported", table=table.name, row=before["id"])
        else:
            report(uow, cast(R, {**row, "claim": None}))
    return locked


def report_apart(
    transactions: Transactions, table: Rows[R], claimed: Sequence[R], report: ClaimReport[R], rest_s: float
) -> None:
    """Report on claimed rows in one transaction, then on those that were locked, in another that waits for them.

    When the database refuses a report, go by halves, down to the row at fault. That one is put off for `rest_s`
    seconds, with an incident: what came of it cannot be kept, so it is done again. So is a row that stays locked for
    longer than LOCK_TIMEOUT, once its claim has ended.
    """

    def report_on(rows: Sequence[R], *, pass_locked: bool = True) -> list[R]:
        locked: list[R] = []
        by_halves(
            rows,
            lambda part: locked.extend(
                transactions.run(lambda uow: report_held(uow, table, part, report, pass_locked=pass_locked))
            ),
            lambda row, error: transactions.run(partial(_put_off, table, row, error, rest_s)),
        )
        return locked

    locked = report_on(claimed)
    if not locked:
        return
    try:
        report_on(locked, pass_locked=False)
    except Exception as error:
        if verdict(error) != "locked":
            raise
        for row in report_on(locked):
            log.warning("locked, not reported", table=table.name, row=row["id"])


def _put_off(table: Rows[R], row: R, error: Exception, rest_s: float, uow: UnitOfWork) -> None:
    log.error("not reported", table=table.name, row=row["id"], error=describe(error))
    open_incident_about(uow, "unreported", row["id"], error)
    ours = (table.c.id == row["id"]) & (table.c.claim == row["claim"])
    uow.values(update(table).where(ours).values(due_at=uow.now + rest_s, claim=None).returning(table.c.id))
