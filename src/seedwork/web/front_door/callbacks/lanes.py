"""Decide which calls may begin now: what is slow or fails holds up its own caller and receiver, and nobody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from sqlalchemy import ColumnElement, and_, false, tuple_

from pulsaga.delivery.transaction.rows import Row
from pulsaga.web.front_door.tables import webhook

IN_FLIGHT = 128
"""Calls of one worker at a time."""
PER_ACTOR = PER_RECEIVER = 32
"""Of these, to one caller's receivers, and to one receiver in the names of all callers. A caller has no more of them
than are free besides: however many callers have receivers that hang, there is room for another's (a dynamic threshold,
as in the buffer of a switch)."""
FIRST_WIDTH, WIDEST = 4, 16
"""Of these, to one receiver of one caller: at first, and once it took what came."""
REMEMBERED = 10_000

Key = tuple[str | None, str | None]
"""A caller and a receiver; None stands for all of them."""


class Lanes:
    """Count the calls in flight of each caller, of each receiver, and of each pair of them: a lane.

    A lane becomes wider by one with every call that is taken and half as wide with every other (AIMD, as in TCP): a
    receiver that hangs is soon called by one thread alone.
    """

    def __init__(self) -> None:
        self._busy: Counter[Key] = Counter()
        self._widths: dict[Key, int] = {}

    def fitting(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Choose of these rows those that may be called now, beside each other and what is in flight."""
        busy = self._busy.copy()
        for row in rows:
            if all(busy[key] < self._limit(key, busy) for key in _keys(row)):
                busy.update(_keys(row))
                yield row

    def open(self) -> ColumnElement[bool]:
        """Select the rows that no limit keeps from being called now."""
        full = [key for key, calls in self._busy.items() if calls >= self._limit(key, self._busy)]
        if (None, None) in full:
            return false()
        return and_(
            webhook.c.actor.not_in([actor for actor, receiver in full if receiver is None]),
            webhook.c.receiver.not_in([receiver for actor, receiver in full if actor is None]),
            tuple_(webhook.c.actor, webhook.c.receiver).not_in([key for key in full if None not in key]),
        )

    def enter(self, row: Row) -> None:
        """Count a call that begins."""
        self._busy.update(_keys(row))

    def leave(self, row: Row) -> None:
        """Count it no more."""
        self._busy.subtract(_keys(row))
        self._busy = +self._busy

    def learn(self, row: Row, *, taken: bool) -> None:
        """Make a lane wider or narrower."""
        if len(self._widths) > REMEMBERED:
            self._widths.clear()
        lane = row["actor"], row["receiver"]
        width = self._limit(lane, self._busy)
        self._widths[lane] = min(width + 1, WIDEST) if taken else max(width // 2, 1)

    def _limit(self, key: Key, busy: Counter[Key]) -> int:
        match key:
            case (None, None):
                return IN_FLIGHT
            case (_, None):
                return min(PER_ACTOR, IN_FLIGHT - busy[None, None])
            case (None, _):
                return PER_RECEIVER
        return self._widths.get(key, FIRST_WIDTH)


def _keys(row: Row) -> list[Key]:
    return [(actor, receiver) for actor in (None, row["actor"]) for receiver in (None, row["receiver"])]
