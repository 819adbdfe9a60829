"""Verify passwords: the same work and the same answer whoever is named, and only so many wrong guesses in a time.

A source is a caller at an address. One that lately gave the right password of a user has a budget of guesses at it of
its own, which nobody else can use up. All others have one for each user and one for all users, and share one per user.
Budgets stand in the write database, so that every web process knows of all. Their keys are HMACs and name nobody.
"""

from __future__ import annotations

import hmac
import random
from typing import Any

import orjson
from sqlalchemy import select, text

from generador.tables import BudgetRow, guess_budget, password
from generador.vault import verifier_of
from pulsaga import Duty, ProtoolsError, Runtime, Stale, UnitOfWork
from pulsaga.web import Rate

OF_SOURCE = Rate(interval_s=1.0, burst=10)
"""Wrong guesses of one source at one user's password."""
OF_USER = Rate(interval_s=0.1, burst=100)
"""Wrong guesses at one user's password of all sources that are not known: it takes ten of them to use it up."""
OF_ALL_USERS = Rate(interval_s=0.1, burst=1000)
"""Wrong guesses of one source at any passwords; it may be an application, or a proxy, with many users."""
KNOWN_S = 30 * 86400.0
"""Seconds for which a source is known after it gave the right password."""
RENEWED_S = 86400.0
"""Seconds by which that is renewed at once: most right passwords write nothing."""
KNOWN_SOURCES = 20
"""Sources that are known for one user, the latest ones."""
SLACK_S = 60.0
"""Seconds by which a budget may seem to be overdrawn: `now` is as old as the wait for the locks."""
MADE = text(
    "INSERT INTO guess_budget (key, revision, full_at, known_until) VALUES (:own, 0, :now, 0), (:source, 0, :now, 0), "
    "(:user, 0, :now, 0) ON CONFLICT DO NOTHING RETURNING key"
)
FORGET_S = 3600.0
"""Seconds after which a full budget is forgotten: none that an attempt has just found is gone when it is locked."""
FORGET_EVERY_S = 60.0
PAGE = 1000
NO_VERIFIER = bytes(32)
"""What nobody's password is known by: no SHA-256 is known to be it."""


class TooManyAttempts(ProtoolsError):
    """Raised when the next attempt is not yet due."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many failed attempts; {wait_s:.0f} s to wait")
        self.wait_s = wait_s


def verify(runtime: Runtime, username: str, given: str, address: str, caller: str) -> bool:
    """Tell whether this is the user's valid password; raise TooManyAttempts before it is looked at."""
    rates = _rates(runtime.settings.key("INTERNAL_TOKEN"), username, (caller, address))
    try:
        return runtime.transactions.run(lambda uow: _attempt(uow, username, given, rates))
    except Stale:  # a budget was forgotten at this very moment
        raise TooManyAttempts(1.0) from None


def _rates(key: bytes, username: str, source: tuple[str, str]) -> dict[str, Rate]:
    """Return by its key each budget that an attempt may count in, in key order: the source's own, then strangers'."""
    named = {("own", username, *source): OF_SOURCE, ("source", *source): OF_ALL_USERS, ("user", username): OF_USER}
    return {f"{name[0]}:{hmac.digest(key, orjson.dumps(name), 'sha256').hex()}": rate for name, rate in named.items()}


def _attempt(uow: UnitOfWork, username: str, given: str, rates: dict[str, Rate]) -> bool:
    rows = _counting(uow, rates)
    if (wait_s := max(rates[row["key"]].wait_s(row["full_at"], uow.now) for row in rows)) > 0:
        raise TooManyAttempts(wait_s)
    kept = uow.values(select(password.c.verifier).where(password.c.username == username))
    right = hmac.compare_digest(next(iter(kept), None) or NO_VERIFIER, verifier_of(given))
    if right:
        _recognize(uow, rows[0])
    else:
        for row in rows:
            uow.put(guess_budget, _spent(row, rates[row["key"]], uow.now))
    return right


def _counting(uow: UnitOfWork, rates: dict[str, Rate]) -> list[BudgetRow]:
    """Return the budgets that an attempt counts in, locked: of a known source its own, so that it waits for nobody.

    The others are made first, where there are none, and then locked, both in key order: no two attempts wait for each
    other, nor does one make what the other has counted in.
    """
    own, source, user = rates
    is_known = select(guess_budget.c.key).where(guess_budget.c.key == own, guess_budget.c.known_until > uow.now)
    counting = [own] if uow.values(is_known) else [own, source, user]
    if len(counting) > 1:
        uow.values(MADE.bindparams(own=own, source=source, user=user, now=uow.now))
    uow.load((guess_budget, key) for key in counting)
    first, *others = (_budget(uow, key, rates[key]) for key in counting)
    return [{**first, "of_user": user}, *others]


def _budget(uow: UnitOfWork, key: str, rate: Rate) -> BudgetRow:
    row = uow.get(guess_budget, key) or {"key": key, "full_at": 0.0, "known_until": 0.0}
    if row["full_at"] > uow.now + rate.room_s + rate.interval_s + SLACK_S:
        row["full_at"] = 0.0  # a clock that has been put right since wrote it
    return row


def _spent(row: BudgetRow, rate: Rate, now: float) -> BudgetRow:
    """Count a wrong guess; the one after the last comes at a random moment, so that no rhythm always wins it."""
    full_at = max(row["full_at"], now) + rate.interval_s
    if rate.wait_s(full_at, now):
        full_at += random.uniform(0, rate.interval_s)
    return {**row, "full_at": full_at}


def _recognize(uow: UnitOfWork, own: BudgetRow) -> None:
    """Know a source from now on, and forgive it what it guessed; what strangers share is not forgiven."""
    until, was_known = uow.now + KNOWN_S, own["known_until"] > uow.now
    if own["full_at"] > uow.now or own["known_until"] < until - RENEWED_S:
        uow.put(guess_budget, {**own, "full_at": 0.0, "known_until": until})
    if not was_known:
        for key in uow.values(_surplus(own.get("of_user") or "", uow.now)):
            uow.remove(guess_budget, key)


def _surplus(user: str, now: float) -> Any:
    """Select the sources of a user that have no place beside a new one, but for those that are being asked by."""
    known = select(guess_budget.c.key).where(guess_budget.c.of_user == user, guess_budget.c.known_until > now)
    latest = known.order_by(guess_budget.c.known_until.desc())
    return latest.offset(KNOWN_SOURCES - 1).with_for_update(skip_locked=True)


def forget_guesses(runtime: Runtime) -> Duty:
    """Delete the budgets that have long been full again, and the sources that were not right for long."""

    def work(uow: UnitOfWork) -> int:
        is_over = (guess_budget.c.known_until < uow.now) & (guess_budget.c.full_at < uow.now - FORGET_S)
        rows = uow.claim(guess_budget, is_over, guess_budget.c.known_until, PAGE)
        for row in rows:
            uow.remove(guess_budget, row["key"])
        return len(rows)

    return Duty("guesses", lambda: runtime.transactions.run_pages(work, PAGE), every_s=FORGET_EVERY_S)
