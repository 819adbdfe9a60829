"""What one process knows of itself: its last batch, its last error, what it waits for, and which of its threads hang.

Like the rules of faults this is one for the process: whatever works in it may tell, at any depth.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

HANGS_AFTER_S = 120.0
"""Seconds without a sign of progress after which a thread that is at work is taken to hang."""


class Wait(NamedTuple):
    """Since when, in Unix seconds, and for what a thread waits."""

    since: float
    what: str


def _here() -> tuple[str, int]:
    """Name this thread: several may have one name."""
    return threading.current_thread().name, threading.get_ident()


class Vitals:
    """What is told by the threads of a process. Times are Unix seconds of this machine. Thread-safe."""

    def __init__(self) -> None:
        self.started_at = time.time()
        self.last_batch_at: float | None = None
        self.last_error: str | None = None
        self._waits: dict[tuple[str, int], Wait] = {}
        self._at_work: dict[tuple[str, int], float] = {}

    def finished_batch(self) -> None:
        """Note that a batch was committed."""
        self.last_batch_at = time.time()

    def failed(self, error: str) -> None:
        """Note what broke, in words that are safe to show."""
        self.last_error = error

    def waits(self, what: str) -> None:
        """Note what this thread waits for: something is down."""
        name = _here()
        known = self._waits.get(name)
        self._waits[name] = Wait(known.since if known else time.time(), what)
        self.progress()

    def goes_on(self) -> None:
        """Note that this thread waits no more."""
        self._waits.pop(_here(), None)

    def longest_wait(self) -> Wait | None:
        """Return what a thread has waited for longest."""
        return min(self._waits.copy().values(), default=None)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Expect signs of progress of this thread while the block runs."""
        name = _here()
        self._at_work[name] = time.monotonic()
        try:
            yield
        finally:
            self._at_work.pop(name, None)

    def progress(self) -> None:
        """Note that this thread moves, if it is at work: a commit, an answer, or a pause that it takes."""
        name = _here()
        if name in self._at_work:
            self._at_work[name] = time.monotonic()

    def hanging(self, after_s: float = HANGS_AFTER_S) -> list[str]:
        """Return the names of threads that are at work and have shown no progress for so long."""
        before = time.monotonic() - after_s
        return sorted(name for (name, _), at in self._at_work.copy().items() if at < before)


OURS = Vitals()
"""Of this process."""
