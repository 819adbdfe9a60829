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
    """Let `burst` requests through at once, and one more each `interval_s` seconds."""

    interval_s: float
    burst: int

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
        self._room_s = rate.interval_s * rate.burst
        self._full_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, name: str, now: float) -> Taken:
        """Take one request out of a bucket, if there is one."""
        with self._lock:
            spent_s = max(0.0, self._full_at.get(name, now) - now) + self.rate.interval_s
            if spent_s > self._room_s * (1 + 1e-9):
                return Taken(0, spent_s - self.rate.interval_s, spent_s - self._room_s)
            self._full_at[name] = now + spent_s
            if len(self._full_at) > LARGEST:
                self._forget(now)
        return Taken(int((self._room_s - spent_s) / self.rate.interval_s + 1e-6), spent_s)

    def _forget(self, now: float) -> None:
        """Keep those that are not full, and of these the half that has spent most when they are too many still."""
        used = sorted((name for name, at in self._full_at.items() if at > now), key=self._full_at.__getitem__)
        self._full_at = {name: self._full_at[name] for name in used[-LARGEST // 2 :]}
