"""Count wrong guesses at the secrets of users, so that only so many are tried in a time.

A source is a caller at an address. One that lately gave the right secret of a user has a budget of guesses at it of
its own, which nobody else can use up. All others have one for each user and one for all users, and share one per user.
Budgets stand in the write database, so that every process knows of all. Their keys are HMACs and name nobody.
"""

from __future__ import annotations

import hmac
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, TypeVar

import orjson
from sqlalchemy import Column, Double, Index, Integer, MetaData, String, select, text

from pulsaga.delivery.loop import Duty
from pulsaga.delivery.transaction.rows import Rows
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import ProtoolsError
from pulsaga.running.runtime import Runtime
from pulsaga.web.access.limits import Rate

T = TypeVar("T")
OF_SOURCE = Rate(interval_s=1.0, burst=10)
"""Wrong guesses of one source at one user's secret."""
OF_USER = Rate(interval_s=0.1, burst=100)
"""Wrong guesses at one user's secret of all sources that are not known: it takes ten of them to use it up."""
OF_ALL_USERS = Rate(interval_s=0.1, burst=1000)
"""Wrong guesses of one source at any secrets; it may be an application, or a proxy, with many users."""
KNOWN_S = 30 * 86400.0
"""Seconds for which a source is known after it gave the right secret."""
RENEWED_S = 86400.0
"""Seconds by which that is renewed at once: most right secrets write nothing."""
KNOWN_SOURCES = 20
"""Sources that are known for one user, the latest ones."""
SLACK_S = 60.0
"""Seconds by which a budget may seem to be overdrawn: `now` is as old as the wait for the locks."""
FORGET_S = 3600.0
"""Seconds after which a full budget is forgotten: none that an attempt has just found is gone when it is locked."""
FORGET_EVERY_S = 60.0
PAGE = 1000
MADE = text(
    "INSERT INTO guess_budget (key, revision, full_at, known_until) VALUES (:own, 0, :now, 0), (:source, 0, :now, 0), "
    "(:user, 0, :now, 0) ON CONFLICT DO NOTHING RETURNING key"
)


class TooManyAttempts(ProtoolsError):
    """Raised when the next attempt is not yet due."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many failed attempts; {wait_s:.0f} s to wait")
        self.wait_s = wait_s


class BudgetRow(TypedDict):
    """What is left of one budget of guesses."""

    key: str
    of_user: NotRequired[str | None]
    full_at: float
    known_until: float


def guess_budgets(tables: MetaData) -> Rows[BudgetRow]:
    """Return the table of budgets, `guess_budget`, in the tables of a service."""
    return Rows[BudgetRow](
        "guess_budget",
        tables,
        Column(
            "key",
            String,
            primary_key=True,
            comment="its kind, and an HMAC of a name, of who asks from where, or of both",
        ),
        Column("revision", Integer, nullable=False),
        Column("of_user", String, comment="HMAC of the name, where the budget is that of one source with one user"),
        Column("full_at", Double, nullable=False, comment="when all wrong guesses are forgotten"),
        Column("known_until", Double, nullable=False, comment="of a source that gave the right password; else 0"),
        Index("guess_budget_known", "of_user", "known_until"),
        Index("guess_budget_over", "known_until", "full_at"),
    )


@dataclass(frozen=True)
class Guesses:
    """The budgets of one service, in its table; `key` names the key that hides whom they are of."""

    table: Rows[BudgetRow]
    key: str = "INTERNAL_TOKEN"

    def attempt(self, uow: UnitOfWork, name: str, source: tuple[str, str], opened: Callable[[], T | None]) -> T | None:
        """Return what a right secret opens; count a wrong one, which opens nothing (None).

        `source` is a caller and an address. Raise TooManyAttempts before it is looked at, Stale when a budget was
        forgotten at this very moment.
        """
        rates = self._rates(uow, name, source)
        rows = self._counting(uow, rates)
        self._check(uow, rows, rates)
        found = opened()
        if found is not None:
            self._recognize(uow, rows[0])
            return found
        for row in rows:
            uow.put(self.table, _spent(row, rates[row["key"]], uow.now))
        return None

    def look(self, uow: UnitOfWork, name: str, source: tuple[str, str]) -> None:
        """Raise TooManyAttempts where an attempt would be refused now; it locks and counts nothing."""
        rates = self._rates(uow, name, source)
        known = self.table.c.known_until > uow.now
        query = select(self.table).where(self.table.c.key.in_(rates))
        found = {row["key"]: row for row in uow.tx.execute(query.add_columns(known.label("known"))).mappings()}
        own = next(iter(rates))
        counting = [own] if own in found and found[own]["known"] else list(rates)
        rows: list[Any] = [found[key] for key in counting if key in found]
        self._check(uow, rows, rates)

    def forget(self, runtime: Runtime) -> Duty:
        """Delete the budgets that have long been full again, and the sources that were not right for long."""
        table = self.table

        def work(uow: UnitOfWork) -> int:
            is_over = (table.c.known_until < uow.now) & (table.c.full_at < uow.now - FORGET_S)
            rows = uow.claim(table, is_over, table.c.known_until, PAGE)
            for row in rows:
                uow.remove(table, row["key"])
            return len(rows)

        return Duty("guesses", lambda: runtime.transactions.run_pages(work, PAGE), every_s=FORGET_EVERY_S)

    def _rates(self, uow: UnitOfWork, name: str, source: tuple[str, str]) -> dict[str, Rate]:
        """Return by its key each budget that an attempt may count in, in key order: the source's own, then shared."""
        key = uow.key(self.key)
        named = {("own", name, *source): OF_SOURCE, ("source", *source): OF_ALL_USERS, ("user", name): OF_USER}
        return {
            f"{name[0]}:{hmac.digest(key, orjson.dumps(name), 'sha256').hex()}": rate for name, rate in named.items()
        }

    def _check(self, uow: UnitOfWork, rows: list[BudgetRow], rates: dict[str, Rate]) -> None:
        waits = (rates[row["key"]].wait_s(_full_at(row, rates[row["key"]], uow.now), uow.now) for row in rows)
        if (wait_s := max(waits, default=0.0)) > 0:
            raise TooManyAttempts(wait_s)

    def _counting(self, uow: UnitOfWork, rates: dict[str, Rate]) -> list[BudgetRow]:
        """Return the budgets that an attempt counts in, locked: of a known source its own, so that it waits for nobody.

        The others are made first, where there are none, and then locked, both in key order: no two attempts wait for
        each other, nor does one make what the other has counted in.
        """
        own, source, user = rates
        table = self.table
        is_known = select(table.c.key).where(table.c.key == own, table.c.known_until > uow.now)
        counting = [own] if uow.values(is_known) else [own, source, user]
        if len(counting) > 1:
            uow.values(MADE.bindparams(own=own, source=source, user=user, now=uow.now))
        uow.load((table, key) for key in counting)
        first, *others = (self._budget(uow, key, rates[key]) for key in counting)
        return [{**first, "of_user": user}, *others]

    def _budget(self, uow: UnitOfWork, key: str, rate: Rate) -> BudgetRow:
        row = uow.get(self.table, key) or {"key": key, "full_at": 0.0, "known_until": 0.0}
        return {**row, "full_at": _full_at(row, rate, uow.now)}

    def _recognize(self, uow: UnitOfWork, own: BudgetRow) -> None:
        """Know a source from now on, and forgive it what it guessed; what strangers share is not forgiven."""
        until, was_known = uow.now + KNOWN_S, own["known_until"] > uow.now
        if own["full_at"] > uow.now or own["known_until"] < until - RENEWED_S:
            uow.put(self.table, {**own, "full_at": 0.0, "known_until": until})
        if not was_known:
            for key in uow.values(self._surplus(own.get("of_user") or "", uow.now)):
                uow.remove(self.table, key)

    def _surplus(self, user: str, now: float) -> Any:
        """Select the sources of a user that have no place beside a new one, but for those that are being asked by."""
        table = self.table
        latest = select(table.c.key).where(table.c.of_user == user, table.c.known_until > now)
        latest = latest.order_by(table.c.known_until.desc())
        return latest.offset(KNOWN_SOURCES - 1).with_for_update(skip_locked=True)


def _full_at(row: BudgetRow, rate: Rate, now: float) -> float:
    """Return when a budget is full again; what a clock has written that has been put right since does not count."""
    return 0.0 if row["full_at"] > now + rate.room_s + rate.interval_s + SLACK_S else row["full_at"]


def _spent(row: BudgetRow, rate: Rate, now: float) -> BudgetRow:
    """Count a wrong guess; the one after the last comes at a random moment, so that no rhythm always wins it."""
    full_at = max(row["full_at"], now) + rate.interval_s
    if rate.wait_s(full_at, now):
        full_at += random.uniform(0, rate.interval_s)
    return {**row, "full_at": full_at}
