"""Predict how long a command accepted now would take. Pure: counts, times and chance come in, nothing is asked.

The prediction is backlog ÷ completion rate. A second is a measurement of the rate only when at its beginning more was
waiting than was done in it: then nobody was idle. While nothing has to wait, no rate is known, and none is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

FEW = 50
"""A backlog this small is never overload: what so few commands show is no rate."""
DEPTH = 10_000
"""Bound of the backlog while no rate is known: nothing has had to wait yet, or the broker is away."""
AIM = 0.2
"""Share of the promised time up to which new commands are taken: the rate may fall, and who was refused comes back."""
KEPT_FOR_RETURNING = 2.0
"""Times that for who was told to come back now."""
WEIGHT_OF_MORE, WEIGHT_OF_LESS = 0.5, 0.2
"""Of the newest measurement in the rate: a second may show less than what can be done, hardly more."""
LONGEST_SPAN_S = 5.0
"""Seconds over which a rate is measured at most, as long as few end; a silence before them counts no more than that."""
LONGEST_WAIT_S = 120.0
"""Longest that anybody is told to wait: callers who ask again too early count as many, and would make it any time."""
SMALLEST_SHARE = 0.05
SHARE_OF = 250
"""Accepted commands by which a process knows its share of the load: the last, however long ago they came."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """Hold one look: commands not yet done, and since the look before those ended and those accepted, by everybody."""

    backlog: int
    ended: int
    accepted: int


class Load:
    """Hold what one web process knows of the whole system's load. `now` is in seconds of any clock."""

    def __init__(self, accept_within_s: float) -> None:
        self._within_s = accept_within_s
        self.rate: float | None = None
        """Commands ended per second while more were waiting, if known."""
        self._counted = 0
        self._counted_at = self._measured_at = self._promised_at = float("-inf")
        self._admitted = self._open = self._done = 0
        """Of those admitted since the last look `_open` are neither stored nor given back."""
        self._promised = 0.0
        self._here = self._everywhere = 0.0

    def count(self, now: float, seen: Count) -> None:
        """Take in one look."""
        self._measure(now, seen.ended)
        older = max(0.0, 1 - seen.accepted / SHARE_OF)
        self._here = older * self._here + self._admitted - self._open
        self._everywhere = older * self._everywhere + seen.accepted
        self._counted, self._counted_at, self._admitted = seen.backlog, now, self._open

    def forget_rate(self) -> None:
        """Predict nothing until commands end again."""
        self.rate = None

    def _measure(self, now: float, ended: int) -> None:
        span_s = min(now - self._measured_at, LONGEST_SPAN_S)
        self._done += ended
        if ended > self._counted or not self._counted:
            self.rate = None
        elif self._done >= FEW or (self._done and span_s == LONGEST_SPAN_S):
            self.rate = self._blended(self._done / span_s)
        else:
            return
        self._done, self._measured_at = 0, now

    def _blended(self, measured: float) -> float:
        if self.rate is None:
            return measured
        return self.rate + (measured - self.rate) * (WEIGHT_OF_MORE if measured > self.rate else WEIGHT_OF_LESS)

    @property
    def _share(self) -> float:
        """This process's part of what is accepted."""
        if self._everywhere < FEW:
            return 1.0
        return min(1.0, max(SMALLEST_SHARE, self._here / self._everywhere))

    @property
    def counted(self) -> int:
        """The backlog of the last look."""
        return self._counted

    def backlog(self, now: float) -> float:
        """Estimate the backlog now: what was counted, what came since, by this process's share, less what was done."""
        done = (self.rate or 0.0) * min(now - self._counted_at, 1.0)
        return max(0.0, self._counted + self._admitted / self._share - done)

    def limit(self, *, returning: bool = False) -> float:
        """Return the backlog from which on a command is refused."""
        new = DEPTH if self.rate is None else max(FEW, self.rate * self._within_s * AIM)
        return new * KEPT_FOR_RETURNING if returning else new

    def has_room(self, now: float, *, returning: bool) -> bool:
        """Tell whether one more command would be taken."""
        return self.backlog(now) < self.limit(returning=returning)

    def admit(self, now: float, *, returning: bool) -> bool:
        """Tell whether one more command is taken, and count it; `settle` says what came of it."""
        admitted = self.has_room(now, returning=returning)
        self._admitted += admitted
        self._open += admitted
        return admitted

    def settle(self, *, is_stored: bool) -> None:
        """Take in what came of a command that was admitted: it is stored, or it is none and counted out."""
        self._open -= 1
        self._admitted -= not is_stored

    def turn(self, now: float, chance: float) -> int:
        """Return after how many seconds a refused caller finds room; each gets a turn of its own, behind the others.

        `chance` (0 to 1) spreads the callers who were refused in the same moment.
        """
        rate = (self.rate or DEPTH * AIM / self._within_s) * self._share
        kept = rate * min(now - self._promised_at, LONGEST_WAIT_S)
        self._promised, self._promised_at = max(0.0, self._promised - kept) + 1, now
        excess = max(0.0, self.backlog(now) - self.limit()) * self._share
        wait_s = min((excess + self._promised) / rate, LONGEST_WAIT_S)
        return max(1, ceil(wait_s + chance * max(1.0, wait_s / 5)))
