"""Count what each asks for against a rate and a burst: a token bucket per name, kept as one number (GCRA).

It counts in this process: N processes let N times as much through.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

LARGEST = 20_000
"""Names kept at once; beyond it those are forgotten that have spent least."""
RATE = re.compile(r"(\d{1,7})/(s|m)(?: burst (\d{1,7}))?")
SECONDS = {"s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Rate:
    """A rate that lets `burst` requests through at once, and one more each `interval_s` seconds."""

    interval_s: float
    burst: int

    @property
    def room_s(self) -> float:
        """Seconds in which an empty bucket is full again."""
        return self.interval_s * self.burst

    def wait_s(self, full_at: float, now: float) -> float:
        """Return in how many seconds a bucket that is full at `full_at` has one to take; 0 where it has."""
        over_s = max(0.0, full_at - now) + self.interval_s - self.room_s
        return over_s if over_s > self.room_s * 1e-9 else 0.0

    def __str__(self) -> str:
        """Write it as `rate_of` reads it, per second."""
        return f"{1 / self.interval_s:g}/s burst {self.burst}"


def rate_of(text: str) -> Rate:
    """Read `50/s burst 100` or `30/m`; without a burst it is the rate. Raise ValueError for anything else."""
    match = RATE.fullmatch(text)
    if not match or not int(match[1]) or match[3] == "0":
        raise ValueError(f"{text!r} is no rate such as 50/s burst 100, or 30/m")
    return Rate(SECONDS[match[2]] / int(match[1]), int(match[3] or match[1]))


@dataclass(frozen=True, slots=True)
class Taken:
    """Tell what a bucket holds: `left` requests, full again in `full_s` seconds; refused: one more in `wait_s`."""

    left: int
    full_s: float
    wait_s: float = 0.0


class Buckets:
    """Hold a bucket for each name. Thread-safe; `now` is in seconds of any clock that does not go back."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._full_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, name: str, now: float) -> Taken:
        """Take one request out of a bucket, if there is one."""
        rate = self.rate
        with self._lock:
            full_at = max(self._full_at.get(name, now), now)
            if wait_s := rate.wait_s(full_at, now):
                return Taken(0, full_at - now, wait_s)
            self._full_at[name] = full_at + rate.interval_s
            if len(self._full_at) > LARGEST:
                self._forget(now)
        spent_s = full_at + rate.interval_s - now
        return Taken(int((rate.room_s - spent_s) / rate.interval_s + 1e-6), spent_s)

    def _forget(self, now: float) -> None:
        """Keep those that are not full, and of these the half that has spent most when they are too many still."""
        used = sorted((name for name, at in self._full_at.items() if at > now), key=self._full_at.__getitem__)
        self._full_at = {name: self._full_at[name] for name in used[-LARGEST // 2 :]}
