"""Say what a contestant is: a system that does the same work as all others and is measured by the same rounds.

The work of one saga: step 1 inserts one row into PostgreSQL, step 2 inserts another, and the end is visible to whoever
asked. A contestant brings its own servers. It lives in a process of its own (`bench.host`), which between its turns is
stopped with everything that belongs to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Run:
    """Hold one run: sagas that ended, seconds from the first acceptance to the last end.

    `latencies` are seconds from acceptance to end, one a saga, where the run bounds what is in flight.
    """

    sagas: int
    seconds: float
    latencies: list[float] = field(default_factory=list)
    accepted_per_s: float | None = None
    """How fast the acceptances alone went, where that was measured apart."""

    @property
    def per_second(self) -> float:
        """Completed sagas per second."""
        return self.sagas / self.seconds


@dataclass(frozen=True)
class Tally:
    """Hold totals since the servers started; None where there is nothing to count."""

    statements: int | None = None
    commits: int | None = None
    wal_bytes: int | None = None
    messages: int | None = None
    message_bytes: int | None = None


class Contestant(Protocol):
    """Run sagas on request. Every method blocks; an error ends this contestant's part, not the contest."""

    name: str

    @property
    def settings(self) -> Mapping[str, str]:
        """What was chosen, in words or as the system's own settings; printed beside the figures."""

    def versions(self) -> Mapping[str, str]:
        """Return the versions of every part, by name."""

    def start(self) -> None:
        """Return once servers, workers and client run and could take a saga."""

    def stop(self) -> None:
        """End every process and leave nothing behind; also after a failed or half-done `start`."""

    def pids(self) -> Mapping[str, int]:
        """Return its processes by name, servers and client included; all are paused and counted.

        Children count with the nearest process named here. A client in this very process gives `os.getpid()`.
        """

    def tally(self) -> Tally:
        """Read the totals now."""

    def depth(self) -> int | None:
        """Return how many messages wait in its outbox now; None where it has none."""

    def sustained(self, sagas: int, in_flight: int) -> Run:
        """Keep up to `in_flight` sagas going until all have ended; accepted in process, or as it is meant to."""

    def one_at_a_time(self, sagas: int) -> list[float]:
        """Return the seconds from acceptance to end of sagas that run alone, one after the other."""

    def preloaded(self, sagas: int) -> Run | None:
        """Accept all sagas while its workers stand still, then time their work; None where that cannot be done."""

    def over_http(self, sagas: int) -> Run | None:
        """Accept by HTTP as fast as it answers and time until the last end; None where it has no HTTP of its own."""
