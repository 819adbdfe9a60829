"""What waits in a service's write database, for how long, and with which last error."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, Table, func, select

from pulsaga.delivery.messages import made_at
from pulsaga.delivery.tables import failure, outbox
from pulsaga.text import printable

FAILS_AFTER_S = 15.0
"""Seconds for which work may fail before operators hear of it: a moment's refusal is nobody's concern."""
UNPUBLISHED_AFTER_S = 15.0
"""Seconds for which a committed message may wait for the broker before operators hear of it."""
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Waiting:
    """A table of work that waits to be done, or to be tried again: a row waits while its `due_at` is not null."""

    name: str
    """What operators call the work, in the plural."""
    table: Table
    since: Column[Any]
    """When a row began to wait, in Unix seconds."""
    error: Column[Any]
    """Why the last try failed; empty or null before."""

    @property
    def fails(self) -> ColumnElement[bool]:
        """Select rows that were tried and failed."""
        return func.coalesce(self.error, "") != ""


FAILURES = Waiting("failures", failure, failure.c.at, failure.c.error)
"""Messages that a handler or a projection could not take yet, of every service."""


class Backlog(NamedTuple):
    """How much of one kind of work waits; ages are seconds."""

    name: str
    waiting: int = 0
    oldest_s: float = 0.0
    failing: int = 0
    failing_s: float = 0.0
    """For which the oldest that fails has waited."""
    next_s: float = 0.0
    """Until one of those that fail is tried again."""
    error: str = ""
    """Of the one that has failed for longest."""

    @property
    def is_stuck(self) -> bool:
        """Whether an operator should look."""
        return self.failing > 0 and self.failing_s >= FAILS_AFTER_S


def backlogs(tx: Connection, waiting: Sequence[Waiting], now: float) -> list[Backlog]:
    """Count what waits, of each kind; `now` is Unix seconds by the database's clock."""
    return [_backlog(tx, one, now) for one in waiting]


def _backlog(tx: Connection, one: Waiting, now: float) -> Backlog:
    due_at = one.table.c.due_at
    waits = due_at.is_not(None)
    count, oldest = tx.execute(select(func.count(), func.min(one.since)).where(waits)).one()
    if not count:
        return Backlog(one.name)
    fails = select(func.count(), func.min(due_at)).where(waits, one.fails)
    failing, next_at = tx.execute(fails).one()
    known = Backlog(one.name, count, max(0.0, now - oldest))
    if not failing:
        return known
    first = select(one.since, one.error).where(waits, one.fails).order_by(one.since).limit(1)
    since, error = tx.execute(first).one()
    return known._replace(
        failing=failing,
        failing_s=max(0.0, now - since),
        next_s=max(0.0, next_at - now),
        error=printable(str(error), SHOWN_CHARACTERS),
    )


def unpublished(tx: Connection, *, told: Collection[str] | None = None) -> Backlog:
    """Count the committed messages that the broker has not confirmed.

    Their age is that of the oldest, by the clock of machines, which ids have. Where a service sends commands again
    under the ids that they had, `told` are the topics of what it tells once, which alone has an age.
    """
    count = tx.execute(select(func.count()).select_from(outbox)).scalar_one()
    aged = select(outbox.c.id).order_by(outbox.c.id).limit(1)
    first = tx.execute(aged if told is None else aged.where(outbox.c.topic.in_(told))).scalar()
    return Backlog("unpublished", count, max(0.0, time.time() - made_at(first)) if first else 0.0)


def problems(found: Sequence[Backlog], outbox_backlog: Backlog) -> Iterator[tuple[str, str, str, str]]:
    """Yield what operators should look at as kind, subject, code and detail of an incident."""
    for one in found:
        if one.is_stuck:
            yield "work-fails", one.name, one.error.partition(":")[0][:60], one.error
    if outbox_backlog.oldest_s >= UNPUBLISHED_AFTER_S:
        yield "unpublished", "outbox", "not-confirmed", "committed messages wait for the broker"
