"""Say which commands are judged: all, those accepted since a time, those that have been left alone for a while."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from pulsaga.values import UNITS, span

EVER = 1e18
"""Unix seconds that no clock reaches."""
MARGIN_S = 300.0
"""Seconds before `since` from which rows are read: clocks of services differ, and commands follow their saga."""


@dataclass(frozen=True)
class Scope:
    """Hold what to judge. `since` is in Unix seconds; `live_s` None says that the system is at rest."""

    since: float | None = None
    live_s: float | None = None

    @property
    def floor(self) -> float:
        """Time from which rows are read, in Unix seconds."""
        return 0.0 if self.since is None else max(0.0, self.since - MARGIN_S)


def time_of(text: str) -> float:
    """Read RFC 3339 or a duration before now (`90s`, `15m`, `2h`, `1d`) as Unix seconds; raise ValueError."""
    if text[-1:] in UNITS:
        return time.time() - span(text)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs its zone, such as 2026-01-31T12:00:00Z")
    return moment.timestamp()
